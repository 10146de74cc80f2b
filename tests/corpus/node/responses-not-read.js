// Asks for the status only; an answer that nobody reads keeps its connection, here and at the server.
'use strict';
const http = require('http');
const fixed = process.argv.includes('fixed');
const agent = new http.Agent({ keepAlive: true });
const kept = [];

function ask(port) {
  return new Promise((resolve, reject) => {
    const request = http.get({ port, host: '127.0.0.1', agent }, (response) => {
      kept.push(response);
      if (fixed) response.resume().on('end', () => resolve(response.statusCode));
      else resolve(response.statusCode);
    });
    request.on('error', reject);
  });
}

const server = http.createServer((request, response) => response.end('hello'));
server.listen(0, '127.0.0.1', async () => {
  let good = 0;
  for (let i = 0; i < 20; i++) good += (await ask(server.address().port)) === 200;
  console.log(`${good} answers`);
  process.exit();
});
