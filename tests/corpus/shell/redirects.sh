# Redirects of builtins, of a loop and of commands. The shell puts everything back.
for i in 1 2 3 4 5 6 7 8 9 10; do
    echo "$i" >/dev/null
    read -r line </dev/null
    : >/dev/null 2>&1 </dev/zero
    { echo a; echo b; } >/dev/null
done
while read -r line; do echo "$line"; done <<END
one
two
END
true >/dev/null
true </dev/null >/dev/null 2>&1
exec 5>/dev/null
echo kept >&5
