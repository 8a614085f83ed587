package kekbit.bench;

import org.HdrHistogram.Histogram;

/** The workloads, as src/workloads has them. */
final class Workloads {
    /** Records between two looks at the clock. */
    private static final int A_WHILE = 1024;

    private Workloads() {}

    static Outcome send(Sender sender, Role role) {
        long begun = System.nanoTime();
        long records = 0;
        if (role.records >= 0) {
            while (records < role.records) {
                records += sendSome(sender, (int) Math.min(A_WHILE, role.records - records));
            }
        } else {
            long end = begun + (long) (role.seconds * 1e9);
            while (System.nanoTime() < end) {
                records += sendSome(sender, A_WHILE);
            }
            sender.send(sender.outgoing.last());
        }
        return new Outcome(records, begun, System.nanoTime(), null);
    }

    /** A method of its own, so that it is compiled as a whole. */
    static int sendSome(Sender sender, int records) {
        for (int i = 0; i < records; i++) {
            sender.send(sender.outgoing.next());
        }
        return records;
    }

    static Outcome receive(Receiver receiver, Role role) {
        long begun = System.nanoTime();
        while (!receiver.incoming.hasEnded() && receiver.incoming.received() != role.records) {
            receiveSome(receiver, role.records);
        }
        return new Outcome(receiver.incoming.received(), begun, System.nanoTime(), null);
    }

    static void receiveSome(Receiver receiver, long records) {
        for (int i = 0; i < A_WHILE && receiver.incoming.received() != records && !receiver.incoming.hasEnded(); i++) {
            if (!receiver.poll()) {
                rest();
            }
        }
    }

    /** As in src/peer.rs: where only throughput counts, a receiver that has caught up rests. */
    private static void rest() {
        for (int i = 0; i < 512; i++) {
            Thread.onSpinWait();
        }
    }

    static Outcome ping(Sender sender, Receiver receiver, Role role) {
        Histogram latencies = Outcome.latencies();
        long begun = System.nanoTime();
        for (long n = 0; n < role.records; n++) {
            long took = trip(sender, receiver, n);
            if (n >= role.records / 10) {
                latencies.recordValue(Math.min(took, Outcome.LONGEST));
            }
        }
        return new Outcome(role.records, begun, System.nanoTime(), latencies);
    }

    private static long trip(Sender sender, Receiver receiver, long n) {
        long begun = System.nanoTime();
        sender.send(sender.outgoing.next());
        await(receiver, n);
        return System.nanoTime() - begun;
    }

    static void await(Receiver receiver, long n) {
        while (receiver.incoming.received() == n) {
            if (!receiver.poll()) {
                Thread.onSpinWait();
            }
        }
    }

    static Outcome pong(Receiver receiver, Sender sender, Role role) {
        long begun = System.nanoTime();
        for (long n = 0; n < role.records; n++) {
            await(receiver, n);
            sender.send(sender.outgoing.next());
        }
        return new Outcome(role.records, begun, System.nanoTime(), null);
    }

    static Outcome sendAtRate(Sender sender, Role role) {
        double interval = 1e9 / role.rate;
        long begun = System.nanoTime();
        for (long n = 0; n < role.records; n++) {
            sendWhenDue(sender, begun + (long) (n * interval));
        }
        return new Outcome(role.records, begun, System.nanoTime(), null);
    }

    static void sendWhenDue(Sender sender, long due) {
        while (System.nanoTime() < due) {
            Thread.onSpinWait();
        }
        sender.send(sender.outgoing.next(due));
    }

    static Outcome receiveAtRate(Receiver receiver, Role role) {
        Histogram latencies = Outcome.latencies();
        long begun = System.nanoTime();
        while (receiver.incoming.received() < role.records) {
            if (!receiver.poll(latencies, role.records / 10)) {
                Thread.onSpinWait();
            }
        }
        return new Outcome(role.records, begun, System.nanoTime(), latencies);
    }
}
