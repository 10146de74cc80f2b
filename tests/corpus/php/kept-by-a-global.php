<?php
// Files that a global variable keeps: the interpreter closes them when it ends. "fixed": the script does.
$files = [];

function keep(array &$files): void
{
    $files[] = fopen('/dev/zero', 'r');
}

for ($i = 0; $i < 20; $i++) {
    keep($files);
}
echo count($files), " files\n";
if (in_array('fixed', $argv)) {
    array_map('fclose', $files);
}
