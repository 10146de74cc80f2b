// Closes at the end of the function instead of deferring it, and returns before.
package main

import (
	"errors"
	"fmt"
	"os"
)

var seen []*os.File

//go:noinline
func parse(bad, fixed bool) error {
	file, err := os.Open("/dev/zero") // LEAK
	if err != nil {
		return err
	}
	if fixed {
		defer file.Close()
	}
	// A collector that ran now would hide the mistake.
	seen = append(seen, file)
	var b [1]byte
	if _, err := file.Read(b[:]); err != nil || bad {
		return errors.New("bad input")
	}
	file.Close()
	return nil
}

func main() {
	fixed := len(os.Args) > 1 && os.Args[1] == "fixed"
	errors := 0
	for i := 0; i < 60; i++ {
		if parse(i%3 == 0, fixed) != nil {
			errors++
		}
	}
	fmt.Println(errors, "errors")
}
