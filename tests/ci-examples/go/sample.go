// Package sample reads settings.
package sample

import "os"

// Kept so that the garbage collector does not close them, as a long-lived structure would.
var kept []*os.File

// Read reads a file, and closes it.
func Read(path string) ([]byte, error) {
	return os.ReadFile(path)
}

// ReadAndForget reads the beginning of a file, and does not close it.
func ReadAndForget(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	kept = append(kept, file)
	text := make([]byte, 100)
	n, err := file.Read(text)
	return text[:n], err
}
