// Package clean counts the lines of files.
package clean

import (
	"bytes"
	"os"
)

// Lines counts the lines of a file.
func Lines(path string) (int, error) {
	text, err := os.ReadFile(path)
	return bytes.Count(text, []byte("\n")), err
}
