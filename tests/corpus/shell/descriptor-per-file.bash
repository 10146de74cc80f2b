# Opens a descriptor of its own for each file, and never closes it.
count=0
for _ in {1..20}; do
    exec {file}<"$0"
    read -r _ <&"$file"
    count=$((count + 1))
    if [[ $1 == fixed ]]; then
        exec {file}<&-
    fi
done
echo "$count files"
