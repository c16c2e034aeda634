"""What was pushed, what workers were given and acknowledged, and what must hold therefore.

It is kept on the clients' side and knows nothing of the daemon but its replies. Every body is
pushed once in its life. Times are those of one monotonic clock, which all threads of a process
share, and which the daemon's leases go by too. What the daemon does for a command it does after
the command was sent and before its answer is there: whatever else is said of it follows from that.
"""

import time
from collections import defaultdict
from itertools import combinations

from ledger import shown


class Acknowledgement:
    """`answered` is None when the answer was lost: then it may be done or not. `counted`: whether
    the message was there by the answer; None if the answer does not tell."""

    __slots__ = ("sent", "answered", "counted")

    def __init__(self):
        self.sent, self.answered, self.counted = time.monotonic(), None, None

    def answer(self, counted=None):
        self.answered, self.counted = time.monotonic(), counted


class Delivery:
    """A message in the hands of one worker. `start`: which start of the daemon gave it. The lease
    surely holds from `received` until `held_until`, since it began after the command was `sent`."""

    __slots__ = ("body", "start", "sent", "received", "held_until", "acknowledgements")

    def __init__(self, body, start, sent, lease_s):
        self.body, self.start, self.sent, self.received = body, start, sent, time.monotonic()
        self.held_until, self.acknowledgements = sent + lease_s, []

    def extend(self, until):
        self.held_until = max(self.held_until, until)

    def release(self):
        """From now on the daemon may give the message to others, or may remove it."""
        self.held_until = min(self.held_until, time.monotonic())

    def acknowledge(self):
        """To be called before the command is sent."""
        self.release()
        self.acknowledgements.append(Acknowledgement())
        return self.acknowledgements[-1]

    def __str__(self):
        acknowledged = [(each.sent, each.answered, each.counted) for each in self.acknowledgements]
        return (f"start {self.start}: sent {self.sent:.6f}, received {self.received:.6f}, held "
                f"until {self.held_until:.6f}, acknowledged (sent, answered, counted) "
                f"{acknowledged}")


class Deliveries:
    """All that was done to one queue, which is empty in the end. `pushed`: the bodies that were
    sent; `answered`: those of which the push was answered; `of_workers`: lists of deliveries."""

    def __init__(self, pushed, answered, of_workers):
        self.pushed, self.answered, self.by_body = set(pushed), set(answered), defaultdict(list)
        for delivery in (delivery for book in of_workers for delivery in book):
            self.by_body[delivery.body].append(delivery)
        self.acknowledgements = {
            body: [each for delivery in deliveries for each in delivery.acknowledgements]
            for body, deliveries in self.by_body.items()}

    def check(self):
        strange = set(self.by_body) - self.pushed
        assert not strange, f"delivered, and nobody had pushed it: {shown(strange)}"
        # Nothing but an acknowledgement removes a message, and the queue is empty.
        lost = [body for body in self.answered if not self.acknowledgements.get(body)]
        assert not lost, f"{len(lost)} LOST, answered and acknowledged by nobody: " \
            f"{shown(lost)}\n{self.history(lost)}"
        for body, deliveries in self.by_body.items():
            try:
                check_acknowledgements(deliveries, self.acknowledgements[body])
                check_leases(deliveries)
            except AssertionError as error:
                raise AssertionError(f"{shown([body])}: {error}\n{self.history([body])}") from None

    def history(self, bodies):
        return "\n".join(str(each) for body in bodies[:5] for each in self.by_body[body])

    def __str__(self):
        deliveries = sum(map(len, self.by_body.values()))
        acknowledged = [each for body in self.acknowledgements.values() for each in body]
        lost = sum(each.answered is None for each in acknowledged)
        late = sum(each.counted is False for each in acknowledged)
        without_answer = sum(
            all(each.answered is None for each in self.acknowledgements.get(body, ()))
            for body in self.answered)
        return (f"{len(self.answered)} pushes answered, {len(self.pushed - self.answered)} in "
                f"doubt; {deliveries} deliveries of {len(self.by_body)} messages; "
                f"{len(acknowledged)} acknowledgements, {lost} without an answer, {late} of what "
                f"was gone; {without_answer} messages of which no acknowledgement was answered")


def check_acknowledgements(deliveries, acknowledgements):
    """Whoever is told that it is done is told the truth, for ever."""
    for each in acknowledgements:
        if each.answered is None:
            continue
        again = [delivery for delivery in deliveries if delivery.sent > each.answered]
        assert not again, "CAME BACK: delivered again after an acknowledgement was answered"
        by_others = [other for other in acknowledgements
                     if other is not each and other.sent < each.answered]
        assert each.counted is not False or by_others, \
            "LOST: gone when the first acknowledgement came"
    counted = sum(each.counted is True for each in acknowledgements)
    assert counted <= 1, f"acknowledged {counted} times, each as the first"


def check_leases(deliveries):
    """No message is with two workers while both leases surely hold. A restart ends all leases."""
    for one, other in combinations(deliveries, 2):
        begin = max(one.received, other.received)
        end = min(one.held_until, other.held_until)
        assert one.start != other.start or begin >= end, \
            f"with two workers at once for {end - begin:.6f} s"
