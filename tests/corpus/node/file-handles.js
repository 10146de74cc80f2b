// The same with promises, and with a `finally`.
'use strict';
const fs = require('fs/promises');

async function look(path) {
  const file = await fs.open(path, 'r');
  try {
    return (await file.stat()).isFile();
  } finally {
    await file.close();
  }
}

async function main() {
  let others = 0;
  for (let i = 0; i < 30; i++) others += !(await look('/dev/null'));
  console.log(`${others} are no files`);
}

main();
