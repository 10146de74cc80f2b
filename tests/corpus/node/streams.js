// Pipes files through streams, which close what they have read.
'use strict';
const fs = require('fs');
const { pipeline } = require('stream/promises');

async function main() {
  let bytes = 0;
  for (let i = 0; i < 20; i++) {
    const input = fs.createReadStream(__filename, { end: 99 });
    await pipeline(input, async function (chunks) {
      for await (const chunk of chunks) bytes += chunk.length;
    });
  }
  console.log(`${bytes} bytes`);
}

main();
