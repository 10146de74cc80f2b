# Duplicates the ends of a coprocess's pipes for each question; the copies stay. There are two pipes, however many copies.
# "fixed": the copies are closed.
coproc answer { while read -r line; do echo "$line"; done; }
count=0
for i in {1..15}; do
    exec {to}>&"${answer[1]}" {from}<&"${answer[0]}"
    echo "$i" >&"$to"
    read -r line <&"$from"
    count=$((count + line))
    if [[ ${1-} == fixed ]]; then exec {to}>&- {from}<&-; fi
done
echo "$count"
