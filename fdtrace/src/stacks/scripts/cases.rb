# Says at many places what its own calls are: a line of JSON each; and opens a file of its own there, which it keeps. Ruby 2.6
# to 3.3.

$folder = ARGV[0]
$files = 0

# Functions of C: a backtrace has them at the place of their caller, if there is one. They are native frames.
OF_C = %w[
  each map times sort_by sort max_by each_with_object inject each_entry each_key fetch gsub upto step collect zip
  eval instance_eval class_eval module_eval instance_exec class_exec define_method
  require load new initialize inherited send __send__ public_send call curry yield === bind_call catch
  resume next first size synchronize handle_interrupt loop tap then force throw raise kill sleep
  write puts format dig == <=> [] + coerce inspect to_s warn backtrace at_exit autoload const_get
]

def text(text)
  '"' + text.gsub(/["\\]/) { |found| "\\" + found } + '"'
end

# The calls of scripts, innermost first, by Ruby's own words.
def calls(trace)
  kept = trace.each_with_index.reject do |at, index|
    behind = trace[index + 1]
    at.path.nil? || OF_C.include?(at.label) && behind && [behind.path, behind.lineno] == [at.path, at.lineno]
  end
  kept.map { |at, _| [at.label, at.path, at.lineno] }
end

def here(name)
  found = calls(caller_locations(0))
  found[0][2] = __LINE__ + 5
  frames = found.map { |label, file, line| "[#{text(label)},#{text(file)},#{line}]" }
  $stdout.write("{\"case\":#{text(name)},\"frames\":[#{frames.join(",")}]}\n")
  path = "#{$folder}/case-#{$files}"
  File.write(path, ""); $files += 1
  IO.sysopen(path)
end

def plain
  here("method")
end

def with_default(value = here("default"), word: here("keyword"))
  [value, word]
end

def deep(left)
  left.zero? ? here("deep") : deep(left - 1)
end

def yields
  yield
end

def protects
  yield
ensure
  here("ensure")
end

def rescues
  raise "x"
rescue RuntimeError
  here("rescue")
else
  nil
end

def lines(
  *all
)
  all
end

class Made
  def self.singleton
    here("singleton method")
  end

  class << self
    def other
      here("method of a singleton class")
    end
  end

  def method_missing(name, *)
    here("method_missing")
  end

  def respond_to_missing?(*)
    true
  end

  define_method(:defined) { |*| here("define_method") }

  def <=>(other)
    here("comparison")
    0
  end
  include Comparable

  def initialize(*)
    here("initialize")
  end

  def to_s
    here("to_s")
    ""
  end

  def each
    yield 1
  end
  include Enumerable

  def with_a_name_that_is_longer_than_what_lies_in_the_string_itself
    [1].each { here("long name") }
  end

  here("class")
end

class Child < Made
  def initialize
    super
  end

  def each(&block)
    super(&block)
  end

  def self.const_missing(name)
    here("const_missing")
  end
end

module Refined
  refine String do
    def refined
      here("refinement")
    end
  end
end
using Refined

here("top")
plain
with_default
deep(3)
deep(400)
yields { here("block") }
[1].each { [2].map { here("block in a block") } }
protects { 1 }
begin
  protects { raise "y" }
rescue StandardError
  here("rescue at the top")
end
rescues
lambda { here("lambda") }.call
proc { here("proc") }.()
->(x) { here("arrow") }.curry[1]
Made.singleton
Made.other
Made.new.missing
Made.new.defined
[Made.new, Made.new].sort
Made.new.max_by { |x| here("max_by") }
[3, 1].sort_by { |x| here("sort_by") }
"#{Made.new}"
Child.new.each { here("super") }
Child.new.with_a_name_that_is_longer_than_what_lies_in_the_string_itself
Child::Absent
"".refined
["method object"].each(&method(:here))
lines(
  1,
  here("lines"),
  2
)
3.times do |number|
  next if number < 2

  here("times")
end
value = 0
while value < 1
  value += 1
  here("while")
end
Hash.new { |*| here("default of a hash") }[1]
"a".gsub(/a/) { here("gsub"); "" }
catch(:out) { here("catch"); throw :out }
send(:plain)
public_send(:then) { here("then") }
tap { here("tap") }
loop { here("loop"); break }
1.step(2, 2) { here("step") }
{ 1 => 2 }.each_with_object([]) { here("each_with_object") }
eval("here('eval')")
eval("\n\nhere('eval of a file')", binding, "made.rb", 7)
instance_eval { here("instance_eval") }
Made.class_eval("def made; here('class_eval'); end", "class_eval.rb", 100)
Made.new.made
Made.instance_method(:made).bind(Made.new).call
Class.new { def anonymous; here("anonymous class"); end }.new.anonymous
Struct.new(:a) { def part; here("struct"); end }.new(1).part
Thread.new { here("thread") }.join
Thread.new { [1].each { plain } }.join
spinning = Thread.new { number = 0; loop { number += 1 } }
4.times { here("beside a thread") }
Thread.new { 4.times { here("thread beside a thread") } }.join
spinning.kill
Fiber.new { here("fiber") }.resume
Fiber.new { Fiber.new { [1].each { here("fiber in a fiber") } }.resume }.resume
Thread.new { Fiber.new { here("fiber in a thread") }.resume; here("thread after a fiber") }.join
Enumerator.new { |all| here("enumerator"); all << 1 }.next
(1..3).lazy.map { |x| here("lazy"); x }.first(1)
once = Fiber.new { Fiber.yield; here("fiber that goes on") }
once.resume
once.resume
Mutex.new.synchronize { here("mutex") }
TracePoint.new(:call) { |point| here("trace point") if point.method_id == :yields }.enable { yields { 1 } }
Signal.trap(:USR1) { here("signal") }
Process.kill(:USR1, $$)
sleep 0.05
File.write("#{$folder}/loaded.rb", "def loaded\n  here('loaded')\nend\nhere('load time')\n")
load "#{$folder}/loaded.rb"
loaded
File.write("#{$folder}/required.rb", "class Required\n\n  here('require')\nend\n")
require "#{$folder}/required"
long = (["value = value + 1"] * 100).join("; ")
eval("def long_method(value)\n" + (1..30).map { "  #{long}\n  here('long method') if value % 700 == 0\n" }.join + "end")
long_method(0)
File.open("#{$folder}/case-#{$files}", "w") if false
at_exit { here("at_exit") }
ObjectSpace.each_object(Class).first
here("end")
