"""Answers that are kept with their status, each with its connection."""

import http.client
import http.server
import os
import sys
import threading


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *words):
        pass


server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
answers = []


def ask():
    connection = http.client.HTTPConnection(*server.server_address)
    connection.request("GET", "/")
    response = connection.getresponse()
    if "fixed" in sys.argv:
        response.read()
        connection.close()
    answers.append(response)


for _ in range(20):
    ask()
print(sum(answer.status == 200 for answer in answers), "answers", flush=True)
server.shutdown()
server.server_close()
os._exit(0)
