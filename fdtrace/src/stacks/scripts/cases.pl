# Says at many places what its own calls are: a line of JSON each; and opens a file of its own there, which it keeps. Perl 5.30
# and later.
use strict;
use warnings;
use List::Util qw(first reduce any sum);
use POSIX ();

my ($count, $folder, @kept);

BEGIN {
    ($count, $folder) = (0, $ARGV[0]);
}

sub text {
    my ($text) = @_;
    utf8::encode($text);
    $text =~ s/(["\\])/\\$1/g;
    $text =~ s/([\x00-\x1f])/sprintf '\\u%04x', ord $1/ge;
    return "\"$text\"";
}

# The calls of scripts, innermost first, by Perl's own words.
sub calls {
    my ($line, $called_at) = @_;
    my @calls;
    my ($file, $depth) = (__FILE__, 1);
    while (my ($package, $from, $at, $name, undef, undef, $evaluated, $required) = caller $depth++) {
        # A block is no call of its own: what runs in it is its function.
        next if $name eq '(eval)' && !defined $evaluated && !$required;
        push @calls, [$required ? '(require)' : $name, $file, $line];
        ($file, $line) = ($from, $at);
    }
    push @calls, ['{main}', $file, $line];
    $calls[1][2] = $called_at if $called_at;
    for my $call (@calls) {
        $call->[1] =~ s/^\(eval \d+\)$/(eval)/;
    }
    return map { '[' . text($_->[0]) . ', ' . text($_->[1]) . ", $_->[2]]" } @calls;
}

sub here {
    # The line of what calls this, where `caller` says another one: it takes the first of several.
    my ($case, $called_at) = @_;
    my $path = "$folder/case-$count";
    open(my $made, '>', $path) or die $!;
    close $made;
    my $frames = join ', ', calls(__LINE__ + 4, $called_at);
    my $line = '{"case": ' . text($case) . ", \"file\": $count, \"frames\": [$frames]}\n";
    syswrite STDOUT, $line;
    $count++;
    my $kept = POSIX::open($path);
    die $! unless defined $kept;
    return 1;
}

BEGIN {
    here('BEGIN');
}

INIT {
    here('INIT');
}

sub plain {
    here('function');
}

sub last_of_its_function {
    return here('return');
}

sub recursion {
    my ($depth) = @_;
    return here('recursion') if $depth == 0;
    recursion($depth - 1);
}

sub nested {
    my ($depth) = @_;
    if ($depth == 0) {
        here('callbacks in callbacks');
        return 0;
    }
    my @sorted = sort { nested($depth - 1); $a <=> $b } 2, 1;
    return 0;
}

package Base {
    sub new {
        my ($class, %fields) = @_;
        return bless {%fields}, $class;
    }

    sub inherited {
        main::here('inherited method');
    }

    sub overridden {
        main::here('method of SUPER');
    }
}

package Thing {
    our @ISA = ('Base');
    our $AUTOLOAD;

    use overload
        '""' => sub { main::here('overloaded string'); 'thing' },
        '+' => \&plus,
        '<=>' => sub { main::here('overloaded comparison'); 0 },
        'bool' => sub { 1 };

    sub plus {
        main::here('overloaded operator');
        return 1;
    }

    sub method {
        my ($self) = @_;
        main::here('method');
    }

    sub overridden {
        my $self = shift;
        $self->SUPER::overridden();
    }

    sub DESTROY {
        my ($self) = @_;
        main::here("DESTROY $self->{case}") if $self->{case};
    }

    sub AUTOLOAD {
        main::here("AUTOLOAD $AUTOLOAD");
    }
}

package Tied {
    sub TIESCALAR { main::here('TIESCALAR'); bless [], shift }
    sub FETCH { main::here('FETCH of a scalar'); 1 }
    sub STORE {
        main::here('STORE of a scalar');
    }

    package Tied::Hash;
    sub TIEHASH { bless [], shift }
    sub FETCH { main::here('FETCH of a hash'); 1 }

    package Tied::Handle;
    sub TIEHANDLE { bless [], shift }
    sub READLINE { main::here('READLINE'); undef }
    sub PRINT { main::here('PRINT'); 1 }
}

package main;

sub leaves {
    my $thing = Thing->new(case => 'at the end of a function');
    return;
}

sub throws {
    my $thing = Thing->new(case => 'while an exception is on its way');
    die "x\n";
}

sub catches {
    eval { throws(); 1 } or here('after eval');
    eval {
        here('eval block');
        1;
    };
}

sub conditions {
    my ($number) = @_;
    if ($number == 1) { # they go on at the same place, so they have the line of the whole
        here('block of one statement', __LINE__ - 1);
    } elsif ($number == 2) {
        here('elsif of one statement', __LINE__ - 3);
    } elsif ($number > 2
        && here('condition of elsif', __LINE__ - 1)) {
        here('second elsif', __LINE__ - 6);
    } else {
        my $other = 1;
        here('else of two statements');
    }
    unless ($number == 4) {
        here('unless', __LINE__);
    }
    return $number == 1
        ? here('first of a choice')
        : here('second of a choice');
}

sub loops {
    for my $number (1) {
        here('for');
    }
    for (my $number = 0; $number < 1; $number++) {
        here('for with a counter');
    }
    my $number = 0;
    while ($number++ < 1
        && here('condition of while')) {
        here('while');
    }
    do {
        here('do', __LINE__)
    } while ($number++ < 2);
    here('modifier') for 1;
    {
        here('bare block');
    }
    for my $outer (1) {
        for my $inner (1) {
            if ($inner) {
                while (1) {
                    here('blocks in blocks');
                    last;
                }
            }
        }
    }
}

sub several_lines {
    my %values = (
        one => 1,
        two => plain(),
        three => here(
            'in the middle of a statement'
        ),
    );
    here('or')
        or die;
    my $text = join ',',
        map {
            here('map');
            $_;
        } 1;
    my @some = grep { here('grep') } 1;
}

sub jumps {
    goto &plain;
}

sub in_pattern {
    my $text = 'ab';
    $text =~ s/(a)/here('replacement'); 'c'/e;
    'a' =~ /a(?{ here('code in a pattern') })/;
}

sub caller_of {
    my ($code, @arguments) = @_;
    return $code->(@arguments);
}

sub with_prototype(&@) {
    my ($code, @values) = @_;
    $code->($_) for @values;
}

sub makes {
    my ($case) = @_;
    return sub {
        here($case);
    };
}

sub by_number {
    here('sort by a function');
    return $a <=> $b;
}

here('top level');
plain();
last_of_its_function();
if (@ARGV) {
    here('block of the program', __LINE__);
}
my $thing = Thing->new;
$thing->method;
$thing->inherited;
$thing->overridden;
$thing->missing;
Thing->missing_of_a_class;
my $name = 'method';
$thing->$name;
$thing->can('method')->($thing);
my $text = "$thing";
my $sum = $thing + 1;
my @things = sort { $a <=> $b } $thing, Thing->new;
undef @things;
leaves();
{
    my $scoped = Thing->new(case => 'at the end of a block');
}
my $kept = Thing->new(case => 'undef');
undef $kept;
catches();
conditions($_) for 1 .. 4;
loops();
several_lines();
jumps();
in_pattern();
caller_of(\&plain);
caller_of(sub { here('anonymous') });
caller_of(makes('closure'));
makes('other closure')->();
with_prototype { here('block as an argument') } 1, 2;
&plain;
&{\&plain}();
recursion(400);
nested(5);
my @sorted = sort { here('sort'); $a <=> $b } 2, 1;
@sorted = sort by_number 2, 1;
my $by = sub { here('sort by a variable'); $a <=> $b };
@sorted = sort $by 2, 1;
first { here('first') } 1;
first { plain() } 1;
reduce { here('reduce'); $a + $b } 1, 2;
any {
    my $value = $_;
    here('any of two statements');
} 1;
first { first { here('first in first') } 1 } 1;
tie my $scalar, 'Tied';
my $fetched = $scalar;
$scalar = 1;
untie $scalar;
tie my %hash, 'Tied::Hash';
$fetched = $hash{x};
tie *TIED, 'Tied::Handle';
$fetched = <TIED>;
print TIED 'x';
local $SIG{USR1} = sub { here('signal') };
kill USR1 => $$;
sub handles { here('signal by name') }
$SIG{USR1} = 'handles';
kill USR1 => $$;
$SIG{USR1} = 'DEFAULT';
{
    local $SIG{__WARN__} = sub { here('warning') };
    warn 'x';
    local $SIG{__DIE__} = sub { here('die') };
    eval { die 'x' };
}
eval 'here("eval of a string"); 1' or die;
eval "\n\nsub of_eval {\n    here('function of eval');\n}\n1" or die;
of_eval();
eval q{eval q{
    here('eval in eval');
}};
eval q{
    if (1) {

        here('block in eval');
    }
};
sub writes {
    my ($name, @lines) = @_;
    open(my $out, '>', "$folder/$name") or die $!;
    print $out map { "$_\n" } @lines;
    close $out;
}
writes('Required.pm', 'package Required;', '', "main::here('require');", '',
    'sub import {', "    main::here('import');", '}', '1;');
writes('Used.pm', 'package Used;', 'BEGIN {', "    main::here('BEGIN of a module');", '}',
    'use Required;', 'sub call {', "    main::here('function of a module');", '}', '1;');
writes('done.pl', "main::here('do FILE');", '1;');
unshift @INC, $folder;
require Required;
eval 'use Used; 1' or die;
Used::call();
do "$folder/done.pl";
eval qq{
# line 700 "made up"
    here('line directive');
1} or die;
{
    no strict 'refs';
    for my $field (qw(one two)) {
        *{"get_$field"} = sub {
            here("accessor $field");
        };
    }
    *alias = \&plain;
    *{"Other::plain"} = \&plain;
}
get_one();
get_two();
alias();
Other::plain();
{
    my $code = sub { here('anonymous with a name') };
    require Sub::Util;
    Sub::Util::set_subname('Named::later', $code)->();
    caller_of(sub { local *__ANON__ = 'named'; here('local name') });
}
{
    my sub lexical {
        here('lexical function');
    }
    lexical();
}
sub gone {
    here('function that is gone');
}
{
    my $code = \&gone;
    delete $main::{gone};
    $code->();
}
eval "use utf8; package L\xc3\xb6we { sub gro\xc3\x9f { main::here('names of Latin-1') } } L\xc3\xb6we::gro\xc3\x9f(); 1" or die;
eval "use utf8; package \xce\xa9 { sub \xcf\x89 { main::here('names of UTF-8') } } \xce\xa9::\xcf\x89(); 1" or die;
if ($] >= 5.034) {
    eval q{use feature 'try'; no warnings;
        sub tries {
            try {
                here('try');
                die 'x';
            } catch ($error) {
                here('catch', __LINE__);
            }
        }
        tries(); 1} or die $@;
}
if ($] >= 5.036) {
    eval q{use feature 'defer'; no warnings;
        sub defers {
            defer {
                here('defer');
            }
            return;
        }
        defers(); 1} or die $@;
}
if ($] >= 5.038) {
    eval q{use feature 'class'; no warnings;
        class Modern {
            field $value = main::here('field');
            ADJUST {
                main::here('ADJUST');
            }
            method say_it {
                main::here('method of a class');
            }
        }
        Modern->new->say_it; 1} or die $@;
}
if (my $child = fork) {
    waitpid $child, 0;
    $count++;
} else {
    caller_of(sub {
        here('fork');
    });
    POSIX::_exit(0);
}
if (eval 'use threads; 1') {
    for my $number (1, 2) {
        threads->create(sub {
            here("thread $number");
        })->join;
        $count++;
    }
    my @threads = threads->create(sub { caller_of(sub { plain() }) });
    $_->join for @threads;
    $count++;
    threads->create('plain')->join;
    $count++;
}

END {
    here('END');
    POSIX::_exit(0);
}
exit;
