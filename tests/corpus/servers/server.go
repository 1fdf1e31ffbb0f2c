// Go's net/http: prints each request that it understands as a line of JSON.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
)

func main() {
	listener, err := net.Listen("tcp", os.Args[1]+":0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("PORT", listener.Addr().(*net.TCPAddr).Port)
	log.SetOutput(io.Discard)
	http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		// A slice of bytes is base64 in JSON.
		line, _ := json.Marshal(map[string]any{"target": r.RequestURI, "method": r.Method, "body": body})
		os.Stdout.Write(append(line, '\n'))
		w.Header().Set("Content-Length", "2")
		w.Write([]byte("ok"))
	}))
}
