package kekbit.bench;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Comparator;
import java.util.List;
import org.HdrHistogram.Histogram;

/**
 * Lets the virtual machine compile everything before anything is measured: both sides of the workload, by one thread, over a
 * queue that is removed afterwards.
 */
final class WarmUp {
    private static final int ROUNDS = 200;
    private static final int RECORDS = 1_000;
    /** The records take no more than that together. */
    private static final int BYTES = 64 << 20;

    private WarmUp() {}

    static void run(Role played) throws IOException, InterruptedException {
        int records = Math.max(1, Math.min(RECORDS, BYTES / ROUNDS / played.size));
        Role role = played.withRecords(ROUNDS * records);
        Path path = role.directory.resolve(role.link + "-warm-up-" + (role.sender ? "sender" : "receiver"));
        Histogram latencies = Outcome.latencies();
        try (Sender sender = new Sender(role, path); Receiver receiver = new Receiver(role, path)) {
            receiver.prepare();
            for (int round = 0; round < ROUNDS; round++) {
                long until = receiver.incoming.received() + records;
                if (role.workload.equals("open-loop")) {
                    for (int i = 0; i < records; i++) {
                        Workloads.sendWhenDue(sender, System.nanoTime() + i % 2 * 100);
                    }
                    while (receiver.incoming.received() < until) {
                        receiver.poll(latencies, 0);
                    }
                } else {
                    Workloads.sendSome(sender, records);
                    Workloads.receiveSome(receiver, until);
                }
                for (int i = 0; i < records; i++) {
                    receiver.poll();
                }
            }
        }
        remove(path);
    }

    private static void remove(Path path) throws IOException {
        List<Path> files;
        try (var found = Files.walk(path)) {
            files = found.sorted(Comparator.reverseOrder()).toList();
        }
        for (Path file : files) {
            Files.delete(file);
        }
    }
}
