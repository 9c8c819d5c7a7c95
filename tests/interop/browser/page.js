// Connects to the broker that this page came from, in each version of the protocol, and tells on `browser/result` what it
// found: "ok N" or what went wrong. `browser/question` comes from the test; the page sends it back as `browser/answer`.
'use strict'

const url = `ws://${location.host}/mqtt`

function open(version) {
    return new Promise((resolve, reject) => {
        const client = mqtt.connect(url, {
            protocolVersion: version,
            protocolId: version === 3 ? 'MQIsdp' : 'MQTT',
            clientId: `browser-${version}`,
            reconnectPeriod: 0,
        })
        client.on('connect', () => resolve(client))
        client.on('error', reject)
        client.on('close', () => reject(new Error('closed')))
    })
}

async function roundTrip(client, version, size) {
    const topic = `browser/${version}/${size}`
    await client.subscribeAsync(topic, { qos: 1 })
    const sent = new Uint8Array(size).fill(size % 251)
    const got = new Promise((resolve) => {
        client.on('message', (name, payload) => name === topic && resolve(payload))
    })
    await client.publishAsync(topic, sent, { qos: 1 })
    const payload = await got
    if (payload.length !== size || payload.some((byte) => byte !== size % 251)) throw new Error(`${size} bytes differ`)
}

async function main() {
    let reporter
    try {
        for (const version of [3, 4, 5]) {
            const client = await open(version)
            for (const size of [0, 125, 126, 65535, 65536, 200000]) await roundTrip(client, version, size)
            reporter = client
        }
        reporter.on('message', (topic, payload) => {
            if (topic === 'browser/question') reporter.publish('browser/answer', payload)
        })
        await reporter.subscribeAsync('browser/question')
        reporter.publish('browser/result', 'ok 3', { retain: true })
    } catch (error) {
        reporter = reporter || (await open(4))
        reporter.publish('browser/result', String(error), { retain: true })
    }
}

main()
