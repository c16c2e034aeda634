"""What clients sent and what they were answered, and what the queues must hold therefore.

The ledger is kept on the clients' side and knows nothing of the daemon but its replies. Every body
is pushed once in its life, so a message that is lost, that comes twice or that comes back after it
was answered as taken is found by its body. What was on the way when a connection broke may have
happened or not; everything else is certain.
"""

from collections import Counter

# Bodies that a complaint shows.
SHOWN = 5

# What an operation may be, and what many of them are called.
VERBS = {"put": "pushes", "pop": "pops", "remove": "removals", "move": "moves",
         "drop": "drops"}


class Operation:
    """Something that a client wants of a queue, and what it was answered.

    `outcome` is None while it is not answered: it may have happened, or a part of it. For a pop it
    is the list of bodies, for anything else whether it happened.
    """

    __slots__ = ("verb", "queue", "bodies", "target", "count", "outcome")

    def __init__(self, verb, queue, bodies=(), target=None, count=0):
        self.verb, self.queue, self.bodies = verb, queue, bodies
        self.target, self.count, self.outcome = target, count, None

    def __str__(self):
        target = f" to {self.target}" if self.target else ""
        return f"{self.verb} {self.queue}{target} {shown(self.bodies)}: {self.outcome}"


class Account:
    """What is known of one queue."""

    def __init__(self, contents):
        # Who put each message here, and which of his it was; 0 is what was there before.
        self.origin = {body: (0, place) for place, body in enumerate(contents)}
        self.certain = set(contents)
        self.gone = []
        self.doubtful = set()
        self.pops_in_doubt = 0

    def put(self, body, origin, is_certain):
        self.origin[body] = origin
        if is_certain:
            self.certain.add(body)

    def take(self, body, is_certain):
        if is_certain:
            self.gone.append(body)
        else:
            self.doubtful.add(body)

    def check_order(self, bodies, what):
        """First in, first out: what was there before comes first, and what one client put here
        comes in the order in which that client put it."""
        last = {}
        for body in bodies:
            assert body in self.origin, f"{what}: {shown([body])}, which nobody put there"
            source, place = self.origin[body]
            is_next = place > last.get(source, -1) and (source > 0 or not any(last))
            assert is_next, f"{what}: {shown([body])} is out of order or twice"
            last[source] = place

    def may_have_been_popped(self, body, found):
        """A pop on its way takes the oldest: whether `body` was put here before what is there. A
        message on its way to another queue is seen by no pop, and may be back after the kill."""
        source, place = self.origin[body]
        for other in found:
            if other in self.doubtful:
                continue
            other_source, other_place = self.origin[other]
            if other_source == source and other_place < place or other_source == 0 < source:
                return False
        return self.pops_in_doubt > 0


class Ledger:
    """All that was done to `queues`. Clients write into books of their own."""

    def __init__(self, queues):
        self.contents = {queue: [] for queue in queues}
        self.books = []
        self.answered = Counter()
        self.in_doubt = Counter()

    def book(self):
        """A new client's list of operations, in the order in which they were sent."""
        book = []
        self.books.append(book)
        return book

    def settle(self, found):
        """Compares the queues' contents with what was answered; from now on they are known."""
        try:
            self.check(found)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.history(str(error))}") from None
        for book in self.books:
            for operation in book:
                self.count(operation)
        self.contents, self.books = found, []

    def check(self, found):
        accounts = {queue: Account(bodies) for queue, bodies in self.contents.items()}
        moves_in_doubt = []
        for source, book in enumerate(self.books, 1):
            for place, operation in enumerate(book):
                enter(operation, (source, place * 1000), accounts)
                if operation.verb == "move" and operation.outcome is None:
                    moves_in_doubt.append(operation)
        for queue, account in accounts.items():
            check_queue(queue, account, found[queue])
            for book in self.books:
                popped = [body for operation in book if operation.verb == "pop"
                          and operation.queue == queue for body in operation.outcome or ()]
                account.check_order(popped, f"{queue}: one client popped")
        for operation in moves_in_doubt:
            check_move(operation, accounts, found)

    def count(self, operation):
        if operation.verb == "pop":
            self.answered["pop"] += len(operation.outcome or ())
        elif operation.outcome:
            self.answered[operation.verb] += len(operation.bodies)
        if operation.outcome is None:
            self.in_doubt[operation.verb] += 1

    def history(self, complaint):
        """What was done to the bodies that a complaint shows."""
        lines = []
        for source, book in enumerate(self.books, 1):
            for place, operation in enumerate(book):
                bodies = [*operation.bodies, *(operation.outcome or ())] \
                    if operation.verb == "pop" else operation.bodies
                if any(shown([body]) in complaint for body in bodies):
                    lines.append(f"client {source}, {place}: {operation}")
        return "\n".join(lines)

    def __str__(self):
        parts = [f"{self.answered[verb]} {name}" for verb, name in VERBS.items()
                 if self.answered[verb]]
        return f"{', '.join(parts)} answered, {self.in_doubt.total()} commands in doubt"


def enter(operation, origin, accounts):
    """Writes an operation into the accounts that it changes."""
    account, is_certain = accounts[operation.queue], operation.outcome is not None
    if operation.outcome is False:
        return
    if operation.verb == "pop":
        account.gone.extend(operation.outcome or ())
        account.pops_in_doubt += 0 if is_certain else operation.count
        return
    for index, body in enumerate(operation.bodies):
        if operation.verb == "put":
            account.put(body, (origin[0], origin[1] + index), is_certain)
        elif operation.verb != "drop" or body in account.origin:
            # A drop also names what its client had been refused.
            account.take(body, is_certain)
        if operation.verb == "move":
            accounts[operation.target].put(body, origin, is_certain)


def check_queue(queue, account, found):
    account.check_order(found, f"{queue} holds")
    gone, there = set(account.gone), set(found)
    twice = [body for body, times in Counter(account.gone).items() if times > 1]
    assert not twice, f"{queue}: taken twice: {shown(twice)}"
    strange = gone.difference(account.origin)
    assert not strange, f"{queue}: taken, and nobody had put it there: {shown(strange)}"
    back = gone & there
    assert not back, f"{queue}: {len(back)} came back: {shown(back)}"
    missing = account.certain - gone - there - account.doubtful
    assert len(missing) <= account.pops_in_doubt, \
        f"{queue}: {len(missing)} LOST, pops on their way {account.pops_in_doubt}: {shown(missing)}"
    for body in missing:
        assert account.may_have_been_popped(body, found), \
            f"{queue}: LOST, and no pop could have taken it: {shown([body])}"


def check_move(operation, accounts, found):
    """A message on its way from one queue to another is in one of them, or in both."""
    body, = operation.bodies
    source, target = accounts[operation.queue], accounts[operation.target]
    is_somewhere = (body not in source.certain or body in source.gone
                    or body in target.gone or body in target.doubtful
                    or body in found[operation.queue] or body in found[operation.target]
                    or source.may_have_been_popped(body, found[operation.queue])
                    or target.may_have_been_popped(body, found[operation.target]))
    assert is_somewhere, f"LOST between {operation.queue} and {operation.target}: {shown([body])}"


def shown(bodies):
    return ", ".join(repr(body[:24]) for body in list(bodies)[:SHOWN])
