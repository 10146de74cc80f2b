// Listens anew whenever its configuration is read, and lets the old listener be.
package main

import (
	"fmt"
	"net"
	"os"
)

var current net.Listener
var old []net.Listener

//go:noinline
func reload(fixed bool) {
	if current != nil {
		if fixed {
			current.Close()
		} else {
			old = append(old, current)
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0") // LEAK
	if err != nil {
		panic(err)
	}
	current = listener
}

func main() {
	fixed := len(os.Args) > 1 && os.Args[1] == "fixed"
	for i := 0; i < 15; i++ {
		reload(fixed)
	}
	fmt.Println("15 reloads")
}
