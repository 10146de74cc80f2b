// A program in Go: no C library, and stacks that grow by moving.
package main

import (
	"os"
	"syscall"
)

var kept []*os.File
var done = make(chan bool)

//go:noinline
func openState(path string) {
	file, err := os.Open(path) // mark: open
	if err != nil {
		os.Exit(1)
	}
	kept = append(kept, file)
}

type worker struct{ path string }

//go:noinline
func (w *worker) step() {
	openState(w.path) // mark: step
}

// In a goroutine of its own, which is not the one that main runs in.
func run() {
	w := &worker{path: "/dev/null"}
	for i := 0; i < 5; i++ {
		w.step() // mark: run
	}
	done <- true
}

// Waits for a line, or for the end of the input.
func wait() {
	var b [1]byte
	for {
		n, err := syscall.Read(0, b[:])
		if err != syscall.EINTR && (n != 1 || b[0] == '\n') {
			return
		}
	}
}

func say(line string) {
	syscall.Write(1, []byte(line))
}

func main() {
	say("ready\n")
	wait()
	go run()
	<-done
	say("leaked\n")
	wait()
}
