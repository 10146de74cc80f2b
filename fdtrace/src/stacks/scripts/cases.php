<?php
// Says at many places what its own calls are: a line of JSON each; and opens a file of its own there, which it keeps. PHP 7.3
// and later.
namespace Cases;

const WAITS = 50; // the line in `here` that opens

class Kept
{
    public static $files = [];
    public static $folder = '';
}

/** The calls of scripts, innermost first, by PHP's own words. */
function calls(array $trace, int $line): array
{
    // An entry says where its function was called, so what stands there belongs to the next one's; a function of C calls from
    // nowhere.
    $calls = [];
    $at = [__FILE__, $line];
    foreach ($trace as $entry) {
        if ($at !== null) {
            $calls[] = [name($entry), $at[0], $at[1]];
        }
        $at = isset($entry['file']) ? [$entry['file'], $entry['line']] : null;
    }
    if ($at !== null) {
        $calls[] = ['{main}', $at[0], $at[1]];
    }
    return $calls;
}

function name(array $entry): string
{
    $included = ['include', 'include_once', 'require', 'require_once', 'eval'];
    if (!isset($entry['class']) && \in_array($entry['function'], $included, true)) {
        return '{main}';
    }
    $name = isset($entry['class']) ? $entry['class'] . '::' . $entry['function'] : $entry['function'];
    return \explode("\0", $name)[0] . (\strpos($name, "\0") ? '::' . $entry['function'] : '');
}

function here(string $case): void
{
    $trace = \debug_backtrace(\DEBUG_BACKTRACE_IGNORE_ARGS);
    $calls = calls($trace, WAITS);
    echo \json_encode(['case' => $case, 'file' => \count(Kept::$files), 'frames' => $calls], \JSON_UNESCAPED_SLASHES), "\n";
    $path = Kept::$folder . '/case-' . \count(Kept::$files);
    \touch($path);
    Kept::$files[] = \fopen($path, 'r');
}

function plain(): void
{
    here('function');
}

trait Shared
{
    public function shared(): void
    {
        here('trait method');
    }
}

abstract class Base
{
    public function inherited(): void
    {
        here('inherited method');
    }
}

class Thing extends Base
{
    use Shared {
        shared as renamed;
    }

    public $case = 'destructor';

    public function method(): void
    {
        here('method');
    }

    public static function still(): void
    {
        here('static method');
    }

    public function closure(): \Closure
    {
        return function () {
            here('closure in a method');
        };
    }

    public function __call($name, $arguments)
    {
        here('__call ' . $name);
    }

    public static function __callStatic($name, $arguments)
    {
        here('__callStatic ' . $name);
    }

    public function __get($name)
    {
        here('__get');
        return 1;
    }

    public function __toString(): string
    {
        here('__toString');
        return '';
    }

    public function __invoke(): void
    {
        here('__invoke');
    }

    public function __destruct()
    {
        if ($this->case !== null) {
            here($this->case);
        }
    }
}

function destroyed(): void
{
    $thing = new Thing();
    unset($thing);
}

function leaves(): void
{
    $thing = new Thing();
    $thing->case = 'destructor at the end of a function';
}

function throws(): void
{
    $thing = new Thing();
    $thing->case = 'destructor while an exception is on its way';
    throws_inside(
        1,
        2
    );
}

function throws_inside(int ...$numbers): void
{
    $thing = new Thing();
    $thing->case = 'destructor where an exception began';

    throw new \RuntimeException('x');
}

function catches(): void
{
    try {
        throws();
    } catch (\RuntimeException $error) {
        here('catch');
    } finally {
        here('finally');
    }
}

function counts(): \Generator
{
    yield 1;
    here('generator');
    yield 2;
}

function delegates(): \Generator
{
    yield from counts();
}

function delegates_again(): \Generator
{
    yield 0;
    yield from delegates();
}

function recursion(int $depth): void
{
    if ($depth === 0) {
        here('recursion');
        return;
    }
    recursion($depth - 1);
}

function nested(int $depth): void
{
    if ($depth === 0) {
        here('callbacks in callbacks');
        return;
    }
    \array_map(function ($less) {
        nested($less);
    }, [$depth - 1]);
}

class Counted implements \IteratorAggregate, \ArrayAccess, \Countable, \JsonSerializable
{
    #[\ReturnTypeWillChange]
    public function getIterator()
    {
        here('IteratorAggregate');
        return new \ArrayIterator([]);
    }

    #[\ReturnTypeWillChange]
    public function offsetGet($offset)
    {
        here('ArrayAccess');
        return 1;
    }

    #[\ReturnTypeWillChange]
    public function offsetSet($offset, $value)
    {
    }

    #[\ReturnTypeWillChange]
    public function offsetExists($offset)
    {
        return true;
    }

    #[\ReturnTypeWillChange]
    public function offsetUnset($offset)
    {
    }

    #[\ReturnTypeWillChange]
    public function count()
    {
        here('Countable');
        return 0;
    }

    #[\ReturnTypeWillChange]
    public function jsonSerialize()
    {
        here('JsonSerializable');
        return [];
    }
}

function several_lines(): void
{
    $values = [
        1,
        plain(),
        here(
            'in the middle of a statement'
        ),
    ];
}

Kept::$folder = $argv[1] ?? $_GET['folder'];
here('top level');
plain();
$thing = new Thing();
$thing->case = null;
$thing->method();
Thing::still();
$thing->shared();
if (\PHP_VERSION_ID >= 80000) { // before, PHP itself looks for the name in the class
    $thing->renamed();
}
$thing->inherited();
$thing->missing();
Thing::missing();
$thing->property;
(string) $thing;
$thing();
$thing->closure()();
(function () {
    here('closure');
})();
(static function () {
    here('static closure');
})();
\call_user_func('Cases\plain');
\call_user_func([$thing, 'method']);
\call_user_func_array('Cases\Thing::still', []);
\array_map(function ($value) {
    here('array_map');
}, [1]);
$numbers = [2, 1];
\usort($numbers, function ($one, $other) {
    here('usort');
    return $one - $other;
});
\array_walk($numbers, function () {
    here('array_walk');
});
\preg_replace_callback('/a/', function ($match) {
    here('preg_replace_callback');
    return '';
}, 'a');
destroyed();
leaves();
catches();
foreach (counts() as $number) {
}
$generator = counts();
$generator->next();
$generator->next();
recursion(100);
nested(10);
foreach (new Counted() as $value) {
}
$counted = new Counted();
$counted['x'];
\count($counted);
\json_encode($counted);
several_lines();
eval('namespace Cases; here("eval");');
eval('

function Cases_of_eval() { \Cases\here("function of eval"); }
');
\Cases_of_eval();
\file_put_contents(Kept::$folder . '/included.php', '<?php
namespace Cases;

here("include");

function of_file() { here("function of a file"); }

return 1;
');
include Kept::$folder . '/included.php';
of_file();
$anonymous = new class {
    public function method(): void
    {
        here('method of a class without a name');
    }
};
$anonymous->method();
(new \ReflectionFunction('Cases\plain'))->invoke();
\spl_autoload_register(function ($class) {
    here('autoload');
});
\class_exists('Cases\Missing');
\ob_start(function ($buffer) {
    return $buffer;
});
\ob_end_flush();
\set_error_handler(function () {
    here('error handler');
    return true;
});
\trigger_error('x');
\restore_error_handler();
echo $undefined ?? '';
if (\PHP_VERSION_ID >= 70400) {
    eval('namespace Cases; (fn() => here("arrow function"))();');
}
if (\PHP_VERSION_ID >= 80000) {
    eval('namespace Cases; match (true) { default => here("match") };
$name = new Thing(); $name->case = null; $name?->method();');
}
if (\PHP_VERSION_ID >= 80100) {
    eval('namespace Cases;
$fiber = new \Fiber(function () {
    here("fiber");
    \Fiber::suspend();
    here("fiber that goes on");
});
$fiber->start();
$fiber->resume();
$first = plain(...);
$first();
enum Kind { case One; public function method() { here("method of an enumeration"); } }
Kind::One->method();');
}
foreach (delegates() as $number) {
}
foreach (delegates_again() as $number) {
}
$generators = [delegates_again()];
\array_map(function ($generator) {
    foreach ($generator as $number) {
    }
}, $generators);
\register_shutdown_function(function () {
    here('shutdown function');
    // PHP itself closes all that its scripts have left open.
    while (\ob_get_level()) {
        \ob_end_flush();
    }
    \flush();
    \exec('kill -9 ' . \getmypid());
});
