# Files that a global variable keeps: the interpreter closes them when it ends. "fixed": the script does.
use strict;
use warnings;

our @files;

sub keep {
    open(my $file, '<', '/dev/zero') or die "/dev/zero: $!";
    push @files, $file;
}

keep() for 1 .. 20;
print scalar(@files), " files\n";
if (grep { $_ eq 'fixed' } @ARGV) {
    close($_) for @files;
}
