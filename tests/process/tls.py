"""A certificate made for the test, and a proxy that speaks TLS before a backend that does not."""

import contextlib
import os
import socket
import ssl
import subprocess
import threading


def certificate(folder, name="127.0.0.1"):
    """(certificate, key): self-signed for 127.0.0.1, or for a host of that name."""
    key, cert = os.path.join(folder, f"{name}.key"), os.path.join(folder, f"{name}.pem")
    san = f"IP:{name}" if name[0].isdigit() else f"DNS:{name}"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                    "-subj", f"/CN={name}", "-addext", f"subjectAltName={san}", "-keyout", key, "-out", cert],
                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return cert, key


class TlsProxy:
    """Listens on a port of 127.0.0.1 with that certificate; each connection goes on to the port behind it."""

    def __init__(self, port, cert, key):
        self.behind = port
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(cert, key)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.url = f"https://127.0.0.1:{self.port}"
        self.connections = 0
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                s, _ = self.listener.accept()
                threading.Thread(target=self.serve, args=(s,), daemon=True).start()

    def serve(self, plain):
        with contextlib.suppress(OSError), plain:
            with self.context.wrap_socket(plain, server_side=True) as client, \
                    socket.create_connection(("127.0.0.1", self.behind)) as backend:
                self.connections += 1
                answers = threading.Thread(target=self.pump, args=(backend, client), daemon=True)
                answers.start()
                self.pump(client, backend)
                answers.join()

    @staticmethod
    def pump(source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)

    def close(self):
        self.listener.close()


class TlsSocket:
    """A client's socket with TLS that can do what a plain one can: close one side, too, which ssl's own cannot."""

    def __init__(self, plain, context, name="127.0.0.1"):
        self.plain, self.incoming, self.outgoing = plain, ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=name)
        self.step(self.tls.do_handshake)

    def step(self, do):
        """do(), with what has to be sent and read for it."""
        while True:
            try:
                return do()
            except ssl.SSLWantReadError:
                self.flush()
                data = self.plain.recv(65536)
                if data:
                    self.incoming.write(data)
                else:
                    self.incoming.write_eof()
            finally:
                self.flush()

    def flush(self):
        if self.outgoing.pending:
            self.plain.sendall(self.outgoing.read())

    def send(self, data):
        return self.step(lambda: self.tls.write(data))

    def sendall(self, data):
        at = memoryview(data)
        while at:
            at = at[self.send(at):]

    def recv(self, n):
        """b"" at an end that was told; one that was not is a reset, as HTTP without a length needs it."""
        try:
            return self.step(lambda: self.tls.read(n))
        except ssl.SSLZeroReturnError:
            return b""
        except ssl.SSLEOFError:
            raise ConnectionResetError("an end without close_notify") from None

    def shutdown(self, how):
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        self.flush()
        self.plain.shutdown(how)

    def __getattr__(self, name):
        return getattr(self.plain, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
