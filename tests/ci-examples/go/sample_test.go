package sample

import "testing"

func TestLeaking(t *testing.T) {
	for i := 0; i < 5; i++ {
		if text, err := ReadAndForget("go.mod"); err != nil || len(text) == 0 {
			t.Fatal(err)
		}
	}
}
