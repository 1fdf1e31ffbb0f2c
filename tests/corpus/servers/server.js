// Node's http: prints each request that it understands as a line of JSON.
const server = require('http').createServer((request, response) => {
  const pieces = []
  request.on('data', (piece) => pieces.push(piece))
  request.on('end', () => {
    const body = Buffer.concat(pieces).toString('base64')
    console.log(JSON.stringify({ target: request.url, method: request.method, body }))
    response.setHeader('Content-Length', 2)
    response.end('ok')
  })
})
server.listen(0, process.argv[2], () => console.log(`PORT ${server.address().port}`))
