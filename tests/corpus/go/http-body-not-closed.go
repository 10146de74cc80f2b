// A client that looks at the status of an answer and not at its body.
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
)

func main() {
	fixed := len(os.Args) > 1 && os.Args[1] == "fixed"
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "hello")
	})}
	go server.Serve(listener)
	url := "http://" + listener.Addr().String()
	good := 0
	for i := 0; i < 20; i++ {
		response, err := http.Get(url)
		if err != nil {
			panic(err)
		}
		if response.StatusCode == http.StatusOK {
			good++
		}
		if fixed {
			response.Body.Close()
		}
	}
	server.Close()
	fmt.Println(good, "answers")
}
