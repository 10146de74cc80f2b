#!/bin/bash
# Streams that are saved, put elsewhere and put back, again and again, and a lock that is held for a moment.
file=$(mktemp)
for i in {1..40}; do
    exec 3>&1 4>&2
    exec >"$file" 2>&1
    echo "line $i"
    exec >&3 2>&4 3>&- 4>&-
    { read -r line; } <"$file"
    exec {lock}<"$file"
    flock "$lock" 2>/dev/null
    exec {lock}<&-
done
rm "$file"
echo "$line"
