// Opens a stream to see whether a file is there, and does not read it: it stays open.
'use strict';
const fs = require('fs');
const fixed = process.argv.includes('fixed');
const streams = [];

function exists(path) {
  return new Promise((resolve) => {
    const stream = fs.createReadStream(path);
    streams.push(stream);
    stream.on('open', () => {
      if (fixed) stream.destroy().on('close', () => resolve(true));
      else resolve(true);
    });
    stream.on('error', () => resolve(false));
  });
}

async function main() {
  let found = 0;
  for (let i = 0; i < 20; i++) found += await exists(__filename);
  console.log(`${found} found`);
  process.exit();
}

main();
