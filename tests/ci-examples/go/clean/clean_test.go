package clean

import "testing"

func TestClean(t *testing.T) {
	for i := 0; i < 5; i++ {
		if lines, err := Lines("clean.go"); err != nil || lines == 0 {
			t.Fatal(err)
		}
	}
}
