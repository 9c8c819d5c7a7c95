// MQTT.js in Node against a broker: `mqttjs_cases.cjs MODULE URL`, where MODULE is the directory of the package. Every
// case runs for each protocol version. Exits 0 when all pass.
'use strict'

const [, , path, url] = process.argv
const mqtt = require(path)
const assert = require('assert')
const { once } = require('events')

const LIMIT_MS = 20000
const versions = [3, 4, 5]

async function connect(version, name, options = {}) {
    const client = mqtt.connect(url, {
        protocolVersion: version,
        protocolId: version === 3 ? 'MQIsdp' : 'MQTT',
        clientId: `js-${name}-${version}`,
        reconnectPeriod: 0,
        ...options,
    })
    client.inbox = []
    client.waiting = []
    client.on('message', (topic, payload, packet) => {
        const message = { topic, payload, packet }
        const next = client.waiting.shift()
        if (next) next(message)
        else client.inbox.push(message)
    })
    const [connack] = await Promise.race([once(client, 'connect'), once(client, 'error').then(([e]) => { throw e })])
    client.connack = connack
    return client
}

function message(client) {
    const ready = client.inbox.shift()
    return ready ? Promise.resolve(ready) : new Promise((resolve) => client.waiting.push(resolve))
}

const cases = {
    // Sizes around those at which frames and packets change their form, in both directions.
    async sizes(version) {
        const client = await connect(version, 'sizes')
        await client.subscribeAsync(`js/${version}/sizes`, { qos: 2 })
        for (const size of [0, 1, 100, 125, 126, 127, 1000, 65535, 65536, 300000]) {
            for (const qos of [0, 1, 2]) {
                const sent = Buffer.alloc(size, size % 251)
                await client.publishAsync(`js/${version}/sizes`, sent, { qos })
                const got = await message(client)
                assert.strictEqual(Buffer.compare(got.payload, sent), 0, `${size} bytes`)
                assert.strictEqual(got.packet.qos, qos)
            }
        }
        await client.endAsync()
    },
    async many(version) {
        const [from, to] = [await connect(version, 'from'), await connect(version, 'to')]
        await to.subscribeAsync(`js/${version}/many`, { qos: 1 })
        const sent = []
        for (let n = 0; n < 500; n++) sent.push(from.publishAsync(`js/${version}/many`, String(n), { qos: 1 }))
        await Promise.all(sent)
        for (let n = 0; n < 500; n++) assert.strictEqual(String((await message(to)).payload), String(n))
        await from.endAsync()
        await to.endAsync()
    },
    async session(version) {
        const options = { clean: false, properties: version === 5 ? { sessionExpiryInterval: 60 } : undefined }
        const first = await connect(version, 'session', options)
        await first.subscribeAsync(`js/${version}/session`, { qos: 1 })
        await first.endAsync()
        const other = await connect(version, 'other')
        await other.publishAsync(`js/${version}/session`, 'kept', { qos: 1 })
        await other.endAsync()
        const again = await connect(version, 'session', options)
        if (version > 3) assert.strictEqual(again.connack.sessionPresent, true)
        assert.strictEqual(String((await message(again)).payload), 'kept')
        await again.endAsync()
    },
    async will(version) {
        const watcher = await connect(version, 'watcher')
        await watcher.subscribeAsync(`js/${version}/will`)
        const will = { topic: `js/${version}/will`, payload: Buffer.from('gone'), qos: 0, retain: false }
        const gone = await connect(version, 'gone', { will })
        gone.stream.destroy()
        assert.strictEqual(String((await message(watcher)).payload), 'gone')
        await watcher.endAsync()
    },
}

async function main() {
    const clock = setTimeout(() => {
        console.error('out of time')
        process.exit(1)
    }, LIMIT_MS)
    for (const version of versions) {
        for (const [name, run] of Object.entries(cases)) {
            await run(version)
            console.log(`ok ${name} (version ${version})`)
        }
    }
    clearTimeout(clock)
    process.exit(0)
}

main().catch((error) => {
    console.error(error)
    process.exit(1)
})
