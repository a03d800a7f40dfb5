"""What ipc.py promises.

    python3 -m unittest -v test_ipc
"""

import gc
import os
import signal
import tempfile
import threading
import unittest
from pathlib import Path

import ipc


class Pair(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.name = str(Path(folder.name) / "socket")
        self.listener = ipc.Listener(self.name)
        self.addCleanup(self.listener.close)
        clients: list[ipc.Connection] = []
        thread = threading.Thread(target=lambda: clients.append(ipc.connect(self.name)))
        thread.start()
        self.server = self.listener.accept(10)
        thread.join()
        self.client = clients[0]

    def test_messages_of_all_lengths_arrive_as_they_were_sent(self) -> None:
        for length in (0, 1, 1000, 100_000, 10_000_000):
            message = bytes(range(256)) * (length // 256 + 1)
            self.client.send(message[:length])
            self.assertEqual(self.server.recv(10), message[:length])

    def test_a_loan_is_read_where_it_was_written_and_stays_as_long_as_it_is_referred_to(self) -> None:
        with self.client.loan(8 << 20) as loan:
            loan[:] = b"\x07" * len(loan)
        message = self.server.recv(10)
        self.assertTrue(message.readonly)
        part = message[-3:]
        self.server.close()
        self.client.close()
        del message
        gc.collect()
        self.assertEqual(part, b"\x07\x07\x07")

    def test_memory_is_given_back_when_nothing_refers_to_it(self) -> None:
        # 40 times 16 MiB are more than a receiver holds at a time.
        for number in range(40):
            with self.client.loan(16 << 20, timeout=10) as loan:
                loan[0] = number
            self.assertEqual(self.server.recv(10)[0], number)

    def test_a_loan_that_ends_by_an_exception_is_not_sent(self) -> None:
        with self.assertRaises(KeyError), self.client.loan(100):
            raise KeyError
        self.client.send(b"next")
        self.assertEqual(self.server.recv(10), b"next")

    def test_waiting_and_not_waiting_end_with_their_errors(self) -> None:
        with self.assertRaises(ipc.WouldBlock):
            self.server.recv(0)
        with self.assertRaisesRegex(ipc.TimedOut, "no message came"):
            self.server.recv(0.01)

    def test_a_wait_without_end_is_ended_by_a_signal(self) -> None:
        # Whoever starts this in the background may have it ignored.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        self.addCleanup(signal.signal, signal.SIGINT, before)
        timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with self.assertRaises(KeyboardInterrupt):
            self.server.recv()
        timer.join()

    def test_iterating_ends_when_the_peer_closes(self) -> None:
        for word in (b"a", b"b"):
            self.client.send(word)
        self.client.close()
        self.assertEqual([bytes(message) for message in self.server], [b"a", b"b"])

    def test_what_is_closed_says_so(self) -> None:
        self.client.close()
        with self.assertRaises(ipc.IpcError) as caught:
            self.client.send(b"late")
        self.assertEqual(caught.exception.result, 14)

    def test_nobody_listens(self) -> None:
        with self.assertRaises(ipc.IpcError) as caught:
            ipc.connect(self.name + "-of-nobody")
        self.assertEqual(caught.exception.result, 16)

    def test_options_reach_the_library(self) -> None:
        with self.assertRaisesRegex(ipc.IpcError, "mode is 9"):
            ipc.connect(self.name, using=ipc.options(mode=9))
        # The last field, so that all before it are where the library looks for them.
        with self.assertRaisesRegex(ipc.IpcError, "payload_align is 3"):
            ipc.connect(self.name, using=ipc.options(payload_name=b"any", payload_align=3))


if __name__ == "__main__":
    unittest.main()
