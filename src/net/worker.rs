//! Work that would make everyone else wait: one thread for each kind, started on first use, with a bounded queue in front
//! of it. Answers come back through the poll of the loop.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::thread;

use mio::Waker;

/// Stack of a worker's thread in bytes.
const STACK: usize = 128 * 1024;

/// One kind of work: jobs `J` become answers `A` on a thread of their own, in their order.
pub(crate) struct Worker<J, A> {
    name: &'static str,
    work: fn(J) -> A,
    bound: usize,
    waker: Arc<Waker>,
    running: Option<(SyncSender<J>, Receiver<A>)>,
    /// Jobs whose answers have not been taken.
    pending: usize,
}

impl<J: Send + 'static, A: Send + 'static> Worker<J, A> {
    /// A worker without a thread yet. At most `bound` jobs may wait; `waker` tells the loop of answers.
    pub(crate) fn new(name: &'static str, bound: usize, waker: Arc<Waker>, work: fn(J) -> A) -> Worker<J, A> {
        Worker { name, work, bound, waker, running: None, pending: 0 }
    }

    /// Hands over a job; gives it back when the queue is full or no thread can be had.
    pub(crate) fn submit(&mut self, job: J) -> Result<(), J> {
        if self.pending >= self.bound {
            return Err(job);
        }
        if self.running.is_none() {
            match self.start() {
                Ok(running) => self.running = Some(running),
                Err(error) => {
                    log::error!("Error: Unable to start the thread for {}: {error}", self.name);
                    return Err(job);
                }
            }
        }
        let Some((jobs, _)) = &self.running else { return Err(job) };
        match jobs.try_send(job) {
            Ok(()) => {
                self.pending += 1;
                Ok(())
            }
            Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => Err(job),
        }
    }

    /// The next answer, if one has come.
    pub(crate) fn next_answer(&mut self) -> Option<A> {
        let answer = self.running.as_ref()?.1.try_recv().ok()?;
        self.pending -= 1;
        Some(answer)
    }

    /// Waits for the next answer; `None` when no job is under way.
    #[allow(dead_code, reason = "only the database has to wait")]
    pub(crate) fn wait_for_answer(&mut self) -> Option<A> {
        let (_, answers) = self.running.as_ref().filter(|_| self.pending > 0)?;
        let answer = answers.recv().ok()?;
        self.pending -= 1;
        Some(answer)
    }

    /// Waits until every job is done and drops the answers: the loop ends, and what the jobs hold must be gone.
    #[allow(dead_code, reason = "only the database has to wait")]
    pub(crate) fn wait(&mut self) {
        while self.pending > 0 {
            let Some((_, answers)) = &self.running else { break };
            if answers.recv().is_err() {
                break;
            }
            self.pending -= 1;
        }
    }

    fn start(&self) -> io::Result<(SyncSender<J>, Receiver<A>)> {
        let (jobs, to_do) = mpsc::sync_channel::<J>(self.bound);
        let (done, answers) = mpsc::channel();
        let (work, waker) = (self.work, Arc::clone(&self.waker));
        thread::Builder::new().name(self.name.into()).stack_size(STACK).spawn(move || {
            // Ends when the worker is dropped.
            while let Ok(job) = to_do.recv() {
                if done.send(work(job)).is_err() {
                    break;
                }
                // Fails only when the loop is gone.
                let _ended = waker.wake();
            }
        })?;
        Ok((jobs, answers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mio::{Events, Poll, Token};
    use std::time::Duration;

    #[test]
    fn answers_come_in_order_and_the_queue_is_bounded() {
        let mut poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(7)).unwrap());
        let mut worker = Worker::new("doubling", 3, waker, |n: u32| n * 2);
        assert!(worker.running.is_none(), "no thread before there is work");
        assert_eq!((1..=5).map(|n| worker.submit(n)).collect::<Vec<_>>(), [Ok(()), Ok(()), Ok(()), Err(4), Err(5)]);
        let mut answers = Vec::new();
        while answers.len() < 3 {
            let mut events = Events::with_capacity(8);
            poll.poll(&mut events, Some(Duration::from_secs(10))).unwrap();
            assert!(events.iter().all(|event| event.token() == Token(7)) && !events.is_empty(), "woken");
            answers.extend(std::iter::from_fn(|| worker.next_answer()));
        }
        assert_eq!(answers, [2, 4, 6]);
        assert_eq!(worker.submit(9), Ok(()), "there is room again");
    }
}
