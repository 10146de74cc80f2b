// Files that stay in a map: no finalizer ever closes them.
package main

import (
	"fmt"
	"os"
)

var tails = map[int]*os.File{}

//go:noinline
func tail(id int) {
	file, err := os.Open("/dev/null") // LEAK
	if err != nil {
		panic(err)
	}
	tails[id] = file
}

func forget(id int) {
	tails[id].Close()
	delete(tails, id)
}

func main() {
	fixed := len(os.Args) > 1 && os.Args[1] == "fixed"
	for i := 0; i < 30; i++ {
		tail(i)
		if fixed {
			forget(i)
		}
	}
	fmt.Println("30 tails")
}
