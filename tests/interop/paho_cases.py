"""The paho-mqtt client against a broker: `paho_cases.py PORT CASE VERSION [TRANSPORT [CAFILE]]`, where VERSION is 3, 4 or 5,
TRANSPORT is tcp or websockets, and CAFILE asks for TLS.

`paho_cases.py` without arguments lists the cases. Exits 0 when the case passes.
"""

import queue
import sys
import time

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

LIMIT = 10
PORT = 0
VERSION = 4
TRANSPORT = "tcp"
CAFILE = None
CASES = {}


def case(*versions):
    """Registers a test for these protocol versions."""

    def register(function):
        CASES[function.__name__] = (function, versions)
        return function

    return register


class Peer:
    """A connected client whose events arrive in queues."""

    def __init__(self, name, clean=True, expiry=None, will=None, alias_max=None):
        self.messages = queue.Queue()
        self.events = queue.Queue()
        options = {} if VERSION == 5 else {"clean_session": clean}
        self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2,
            client_id=f"paho-{name}-{VERSION}",
            protocol=VERSION,
            transport=TRANSPORT,
            **options,
        )
        self.client.on_connect = lambda c, u, flags, reason, p: self.events.put(("connect", flags, reason, p))
        self.client.on_subscribe = lambda c, u, mid, reasons, p: self.events.put(("subscribe", mid, reasons, p))
        self.client.on_unsubscribe = lambda c, u, mid, reasons, p: self.events.put(("unsubscribe", mid, reasons, p))
        self.client.on_disconnect = lambda c, u, flags, reason, p: self.events.put(("disconnect", flags, reason, p))
        self.client.on_message = lambda c, u, message: self.messages.put(message)
        if will:
            topic, payload, qos, retain, properties = will
            self.client.will_set(topic, payload, qos, retain, properties)
        arguments = {}
        if VERSION == 5:
            properties = Properties(PacketTypes.CONNECT)
            if expiry is not None:
                properties.SessionExpiryInterval = expiry
            if alias_max is not None:
                properties.TopicAliasMaximum = alias_max
            arguments = {"clean_start": clean, "properties": properties}
        if CAFILE:
            self.client.tls_set(ca_certs=CAFILE)
        self.client.connect("localhost" if CAFILE else "127.0.0.1", PORT, 60, **arguments)
        self.client.loop_start()
        _, flags, reason, self.connack = self.event("connect")
        assert not reason.is_failure, reason
        self.present = flags.session_present

    def event(self, kind):
        event = self.events.get(timeout=LIMIT)
        assert event[0] == kind, event
        return event

    def subscribe(self, *filters, **options):
        self.client.subscribe(*filters, **options)
        return [reason.value for reason in self.event("subscribe")[2]]

    def publish(self, topic, payload=None, qos=0, retain=False, properties=None):
        info = self.client.publish(topic, payload, qos, retain, properties)
        info.wait_for_publish(LIMIT)
        assert info.is_published(), "no acknowledgement"

    def message(self):
        return self.messages.get(timeout=LIMIT)

    def expect(self, topic, payload, qos=0, retain=False):
        message = self.message()
        got = (message.topic, message.payload, message.qos, message.retain)
        assert got == (topic, payload, qos, retain), got
        return message

    def nothing_else(self):
        """A message to itself is the next thing that arrives."""
        topic = "p/mark"
        self.subscribe(topic, 0)
        self.publish(topic, "mark")
        self.expect(topic, b"mark")

    def close(self):
        self.client.disconnect()
        self.event("disconnect")
        self.client.loop_stop()

    def lose(self):
        """Ends the connection without DISCONNECT and without coming back."""
        self.client.loop_stop()
        self.client.socket().close()


def publish_properties(**values):
    properties = Properties(PacketTypes.PUBLISH)
    for name, value in values.items():
        setattr(properties, name, value)
    return properties


@case(3, 4, 5)
def every_qos():
    sub, pub = Peer("sub"), Peer("pub")
    for granted in range(3):
        assert sub.subscribe(f"p/qos/{granted}/+", granted) == [granted]
        for qos in range(3):
            pub.publish(f"p/qos/{granted}/{qos}", "payload", qos)
            sub.expect(f"p/qos/{granted}/{qos}", b"payload", min(qos, granted))
    sub.nothing_else()


@case(3, 4, 5)
def retained():
    pub = Peer("pub")
    pub.publish("p/ret/a", "old", 1, True)
    pub.publish("p/ret/a", "new", 1, True)
    pub.publish("p/ret/b", "removed", 1, True)
    pub.publish("p/ret/b", None, 1, True)
    sub = Peer("sub")
    sub.subscribe("p/ret/+", 1)
    sub.expect("p/ret/a", b"new", 1, True)
    pub.publish("p/ret/a", None, 1, True)
    sub.expect("p/ret/a", b"", 1, False)
    sub.nothing_else()


@case(3, 4, 5)
def will():
    watch = Peer("watch")
    watch.subscribe("p/will/+", 2)
    Peer("polite", will=("p/will/polite", "gone", 1, False, None)).close()
    Peer("lost", will=("p/will/lost", "gone", 1, False, None)).lose()
    watch.expect("p/will/lost", b"gone", 1)
    watch.nothing_else()


@case(5)
def will_properties():
    properties = Properties(PacketTypes.WILLMESSAGE)
    properties.WillDelayInterval = 1
    properties.ContentType = "text/plain"
    properties.UserProperty = ("key", "value")
    watch = Peer("watch")
    watch.subscribe("p/willprops", 1)
    start = time.monotonic()
    Peer("late", expiry=60, will=("p/willprops", "gone", 1, False, properties)).lose()
    message = watch.expect("p/willprops", b"gone", 1)
    assert time.monotonic() - start >= 0.9, "the will came too early"
    assert message.properties.ContentType == "text/plain"
    assert message.properties.UserProperty == [("key", "value")]


@case(3, 4)
def session():
    first = Peer("session", clean=False)
    first.subscribe("p/session", 1)
    first.close()
    pub = Peer("pub")
    for number in range(3):
        pub.publish("p/session", str(number), 1)
    second = Peer("session", clean=False)
    assert second.present == (VERSION == 4)
    for number in range(3):
        second.expect("p/session", str(number).encode(), 1)
    second.close()
    assert not Peer("session", clean=True).present


@case(5)
def session_expiry():
    first = Peer("expiry", expiry=60)
    first.subscribe("p/expiry", 1)
    first.close()
    pub = Peer("pub")
    pub.publish("p/expiry", "queued", 1)
    second = Peer("expiry", clean=False, expiry=1)
    assert second.present
    second.expect("p/expiry", b"queued", 1)
    second.close()
    # Its second has passed when the session is gone; the broker may take its time, but not long.
    deadline = time.monotonic() + LIMIT
    time.sleep(2)
    while Peer("expiry", clean=False, expiry=1).present:
        assert time.monotonic() < deadline, "the session does not expire"
        time.sleep(3)


@case(3, 4, 5)
def unsubscribe():
    peer = Peer("unsub")
    peer.subscribe("p/un", 1)
    peer.client.unsubscribe("p/un")
    peer.event("unsubscribe")
    peer.publish("p/un", "x", 1)
    peer.nothing_else()


@case(3, 4, 5)
def many_in_order():
    sub, pub = Peer("sub"), Peer("pub")
    for qos in range(3):
        sub.subscribe("p/many", qos)
        infos = [pub.client.publish("p/many", str(number), qos) for number in range(100)]
        for info in infos:
            info.wait_for_publish(LIMIT)
        for number in range(100):
            sub.expect("p/many", str(number).encode(), qos)


@case(5)
def user_properties():
    peer = Peer("user")
    peer.subscribe("p/user", 1)
    pairs = [("a", "1"), ("b", "2"), ("a", "3")]
    peer.publish(
        "p/user", "x", 1, properties=publish_properties(UserProperty=pairs, PayloadFormatIndicator=1, ContentType="c")
    )
    properties = peer.expect("p/user", b"x", 1).properties
    assert properties.UserProperty == pairs, properties
    assert properties.PayloadFormatIndicator == 1 and properties.ContentType == "c", properties


@case(5)
def request_response():
    service, asker = Peer("service"), Peer("asker")
    service.subscribe("p/request", 1)
    asker.subscribe("p/answer/asker", 1)
    asker.publish(
        "p/request", "2+2", 1, properties=publish_properties(ResponseTopic="p/answer/asker", CorrelationData=b"\0\1")
    )
    request = service.message()
    service.publish(
        request.properties.ResponseTopic,
        "4",
        1,
        properties=publish_properties(CorrelationData=request.properties.CorrelationData),
    )
    assert asker.expect("p/answer/asker", b"4", 1).properties.CorrelationData == b"\0\1"


@case(5)
def topic_alias():
    peer = Peer("alias")
    assert peer.connack.TopicAliasMaximum == 10, peer.connack
    peer.subscribe("p/alias/+", 0)
    peer.publish("p/alias/a", "1", properties=publish_properties(TopicAlias=1))
    peer.publish("", "2", properties=publish_properties(TopicAlias=1))
    peer.publish("p/alias/b", "3", properties=publish_properties(TopicAlias=1))
    peer.publish("", "4", properties=publish_properties(TopicAlias=1))
    for topic, payload in [("a", b"1"), ("a", b"2"), ("b", b"3"), ("b", b"4")]:
        peer.expect(f"p/alias/{topic}", payload)


@case(5)
def message_expiry():
    first = Peer("mexpiry", expiry=60)
    first.subscribe("p/mexpiry", 1)
    first.close()
    pub = Peer("pub")
    pub.publish("p/mexpiry", "short", 1, properties=publish_properties(MessageExpiryInterval=1))
    pub.publish("p/mexpiry", "long", 1, properties=publish_properties(MessageExpiryInterval=100))
    # The case is about time that passes, so it has to pass.
    time.sleep(2.5)
    second = Peer("mexpiry", clean=False, expiry=0)
    rest = second.expect("p/mexpiry", b"long", 1).properties.MessageExpiryInterval
    assert 90 <= rest < 100, rest
    second.nothing_else()


@case(5)
def shared_subscription():
    members = [Peer(f"member{number}") for number in range(3)]
    for member in members:
        member.subscribe("$share/team/p/job/#", 1)
    pub = Peer("pub")
    for number in range(9):
        pub.publish(f"p/job/{number}", str(number), 1)
    got = sorted(member.message().topic for member in members for _ in range(3))
    assert got == [f"p/job/{number}" for number in range(9)], got
    for member in members:
        member.nothing_else()


@case(5)
def subscription_options():
    peer = Peer("options")
    peer.publish("p/opt/kept", "x", 1, True)
    peer.subscribe("p/opt/#", options=SubscribeOptions(qos=1, noLocal=True, retainHandling=2))
    other = Peer("other")
    peer.publish("p/opt/own", "own", 1)
    other.publish("p/opt/other", "other", 1)
    peer.expect("p/opt/other", b"other", 1)
    other.publish("p/opt/kept", None, 1, True)
    peer.expect("p/opt/kept", b"", 1)


@case(5)
def subscription_identifier():
    peer = Peer("ident")
    properties = Properties(PacketTypes.SUBSCRIBE)
    properties.SubscriptionIdentifier = 70000
    peer.subscribe("p/ident", options=SubscribeOptions(qos=1), properties=properties)
    peer.publish("p/ident", "x", 1)
    assert peer.expect("p/ident", b"x", 1).properties.SubscriptionIdentifier == [70000]


@case(5)
def take_over():
    first = Peer("twin")
    first.client.reconnect_delay_set(60, 60)
    Peer("twin")
    assert first.event("disconnect")[2].value == 0x8E


def main():
    global PORT, VERSION, TRANSPORT, CAFILE
    if len(sys.argv) == 1:
        for name, (_, versions) in CASES.items():
            print(name, *versions)
        return
    PORT, VERSION = int(sys.argv[1]), int(sys.argv[3])
    TRANSPORT = sys.argv[4] if len(sys.argv) > 4 else "tcp"
    CAFILE = sys.argv[5] if len(sys.argv) > 5 else None
    CASES[sys.argv[2]][0]()


if __name__ == "__main__":
    main()
