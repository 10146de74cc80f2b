# Pipelines, command substitution, process substitution, and a job in the background.
sum=0
for i in 1 2 3 4 5; do
    words=$(echo "$i" | cat | tr '0-9' 'a-j')
    sum=$((sum + ${#words}))
    read -r line < <(echo "$i")
    sum=$((sum + line))
    cat <(echo x) <(echo y) >/dev/null
done
sleep 0.02 >/dev/null &
wait
echo "$sum"
