// Says at many places what its own calls are: a line of JSON each; and opens a file of its own there, which it keeps. Node 14 on.
// It opens the file first: asking for a stack makes V8 write down positions, and most programs do not ask.
'use strict';
const fs = require('fs');
const v8 = require('v8');
const vm = require('vm');
const worker = require('worker_threads');

Error.stackTraceLimit = 150;
const folder = worker.isMainThread ? process.argv[2] : worker.workerData.folder;
let files = worker.isMainThread ? 0 : worker.workerData.files;

// Functions of V8 itself are of no file, and what waits is no caller. Names that are computed as the script runs are not in its code.
function calls(sites) {
  const found = [];
  for (const site of sites) {
    const file = site.getFileName();
    if (!file || (site.isAsync && site.isAsync()) || !/^(\/|file:|node:)|\.js$/.test(file)) continue;
    const line = /^(\/|file:)/.test(file) ? site.getLineNumber() : 0;
    const name = site.getFunctionName() || '';
    const column = line && site.getColumnNumber();
    found.push([name === '' || name.startsWith('[') ? '<anonymous>' : name, file, line, column]);
  }
  return found;
}

function here(name) {
  fs.openSync(`${folder}/case-${files}`, 'w');
  Error.prepareStackTrace = (_, sites) => sites;
  const found = calls(new Error().stack);
  Error.prepareStackTrace = undefined;
  [found[0][2], found[0][3]] = [found[0][2] - 2, 6];
  fs.writeSync(1, JSON.stringify({ case: name, frames: found }) + '\n');
  files += 1;
}

function plain() {
  here('function');
}

function lines(
  first = here('default value'),
  { second } = { second: here('destructured') },
) {
  return first || second
    || here('behind operators');
}

function nested(value) {
  const inner = (n) => {
    if (n > 100) {
      return here('never');
    }
    return [
      n,
      here('nested'),
      n + 1,
    ];
  };
  return inner(value)
    .map((one) => one)
    .concat(
      inner(value),
    );
}

function loops() {
  for (let i = here('loop start'); i === undefined || i < 1; i = (here('loop update'), 2)) {
    here('loop body');
    if (i === undefined) i = 0;
  }
  do {
    here('do');
  } while (here('while'));
  for (const one of [1]) {
    here('of ' + one);
  }
  for (const key in { a: 1 }) here('in ' + key);
}

function tries() {
  try {
    here('try');
    throw new Error('x');
  } catch (error) {
    here('catch');
  } finally {
    here('finally');
  }
  switch (files % 1) {
    case 0:
      here('case');
      break;
    default:
      here('never');
  }
}

function unreached() {
  if (false) {
    here('never');
  }
  here('behind what is never reached');
  return;
  here('never');
}

function same(n) {
  if (n === 0) { here('first of two'); }
  else { here('second of two'); }
}

function deep(left) {
  return left === 0 ? here('deep') : deep(left - 1);
}

class Base {
  constructor(name) {
    here(name);
  }
  method(...rest) { return here('method ' + rest.length); }
  static make() { return here('static method'); }
}

class Derived extends Base {
  constructor() {
    const prepared = String('x');
    super('super of ' + prepared);
    here('constructor');
  }
  method(a, b) {
    const list = [a, b];
    return super.method(...list,
      3);
  }
}

const arrow = () => here('arrow');
const object = {
  member() { here('member'); },
  arrow: () => {
    here('arrow member');
  },
};

function tag(strings, ...values) {
  return here('tag ' + values.length);
}

function* generator() {
  here('generator');
  yield 1;
  here('generator that goes on');
}

async function waits() {
  here('before an await');
  await null;
  here('after an await');
  await Promise.resolve()
    .then(() => here('then'));
  for await (const one of [1]) {
    here('for await ' + one);
  }
}

// Functions are given to both optimising compilers, as far as there are two; they may take them or not.
v8.setFlagsFromString('--allow-natives-syntax');
function native(source) {
  try {
    return new Function('f', source);
  } catch (error) {
    return () => {};
  }
}
const prepare = native('%PrepareFunctionForOptimization(f)');
const never = native('%NeverOptimizeFunction(f)');
const compilers = ['%OptimizeMaglevOnNextCall(f)', '%OptimizeFunctionOnNextCall(f)'].map(native);

function optimize(run, ...callees) {
  for (const compile of compilers) {
    for (const one of [run, ...callees]) prepare(one);
    run('before');
    run('before');
    compile(run);
    run('optimized');
    run('optimized');
  }
}

function alone(when) {
  const name = [when];
  here(
    'alone, ' + name[0]);
}

function innermost(name) {
  let text = name;
  text += ', innermost';
  return here(text) || 1;
}

function between(name) {
  innermost(name);
  return 1 +
    innermost(name + ' again');
}

class Inlined {
  constructor(name) {
    this.sum =
      between(name);
  }
  get value() {
    return innermost('getter');
  }
}

function outermost(when) {
  let sum = 0;
  for (const one of [1, 2]) {
    sum += between('inlined ' + one + ', ' + when);
  }
  [1, 2].forEach((one) => {
    sum += innermost('inlined in forEach ' + one);
  });
  const made = new Inlined('inlined constructor');
  return sum + made.value
    + between.apply(null, ['inlined by apply']);
}

function catches(when) {
  try {
    innermost('inlined in try, ' + when);
    throw new Error('x');
  } catch (error) {
    return between('inlined in catch, ' + when);
  }
}

function itself(left) {
  return left === 0 || left === 'before' || left === 'optimized' ? here('recursive') : itself(left - 1);
}

function recursive(when) {
  itself(9);
  return itself(when);
}

const settings = { factor: 1 };

function changes(when) {
  if (when === 'now') settings.factor = {};
  here('called by what is no longer valid');
}

function deoptimized(when) {
  const before = settings.factor;
  changes(when);
  return [before, settings.factor];
}

function loop(times) {
  let sum = 0;
  for (let i = 1; i <= times; i++) {
    sum += i % 7;
    if (i % (times / 5) === 0) {
      between('loop that gets hot');
    }
  }
  return sum;
}

async function main() {
  plain();
  if (!worker.isMainThread) {
    return new Derived().method();
  }
  lines();
  nested(1);
  loops();
  tries();
  unreached();
  same(0);
  same(1);
  deep(5);
  deep(400);
  new Base('new');
  new Derived().method(1, 2);
  Base.make();
  arrow();
  object.member();
  object.arrow();
  object?.member?.();
  tag`a${1}b${2}`;
  [1].forEach((one) => here('forEach ' + one));
  [3, 1].sort(() => { here('sort'); return 0; });
  new Map([[1, 2]]).forEach(function named() { here('Map'); });
  'a'.replace(/a/, () => here('replace') || '');
  JSON.stringify({ toJSON() { here('toJSON'); } });
  plain.call(null);
  plain.apply(null, []);
  Reflect.apply(plain, null, []);
  plain.bind(null)();
  (() => { here('called at once'); })();
  (function () { here('function called at once'); })();
  new Proxy(plain, { apply() { here('proxy'); } })();
  [...generator()];
  await waits();
  await new Promise((done) => setTimeout(() => { here('timer'); done(); }, 1));
  await new Promise((done) => setImmediate(() => { here('immediate'); done(); }));
  await new Promise((done) => process.nextTick(() => { here('next tick'); done(); }));
  await new Promise((done) => queueMicrotask(() => { here('microtask'); done(); }));
  /* ä 😀 */ here('behind other characters');
  const made = `${folder}/made.js`;
  fs.writeFileSync(made, '(function (here) {\r\n  const made = () =>\r\n    here("made");\r\n  made();\r\n})');
  vm.runInThisContext(fs.readFileSync(made, 'utf8'), { filename: made })(here);
  for (let i = 0; i < 300; i++) hot(i === 150 || i === 299);
  optimize(alone);
  optimize(outermost, between, innermost);
  optimize(catches, between, innermost);
  optimize(recursive, itself);
  never(changes);
  optimize(deoptimized);
  deoptimized('now');
  loop(4000000);
  // A worker closes what it has opened, unless it is told not to.
  const options = { workerData: { folder, files }, trackUnmanagedFds: false };
  await new Promise((done) => new worker.Worker(__filename, options).on('exit', done));
}

function hot(now) {
  const value = String(now);
  if (now) {
    here(`hot ${value}`);
  }
}

main();
