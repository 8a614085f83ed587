package kekbit.bench;

import java.nio.file.Files;
import java.nio.file.Path;
import net.openhft.chronicle.bytes.Bytes;
import net.openhft.chronicle.queue.ExcerptTailer;
import net.openhft.chronicle.queue.impl.ExcerptContext;
import net.openhft.chronicle.queue.impl.single.SingleChronicleQueue;
import net.openhft.chronicle.wire.DocumentContext;
import org.HdrHistogram.Histogram;

/** The receiving side: a tailer. */
final class Receiver implements AutoCloseable {
    final Payload.Incoming incoming;
    private final Role role;
    private final SingleChronicleQueue queue;
    private final ExcerptTailer tailer;

    /** Waits for the queue. */
    Receiver(Role role, Path path) throws InterruptedException {
        this.role = role;
        incoming = new Payload.Incoming(role.size, role.sequenceAt());
        // The coordinator has a deadline.
        while (!Files.exists(path.resolve("metadata.cq4t"))) {
            Thread.sleep(1);
        }
        queue = Queues.open(role, path, true);
        tailer = queue.createTailer();
        tailer.singleThreadedCheckDisabled(true);
    }

    /** Waits for the first file, and touches its pages where it is known how many will be used. */
    void prepare() {
        // The appender's first document is of metadata, which a tailer passes without presenting it.
        while (((ExcerptContext) tailer).wire() == null) {
            poll();
        }
        var mapped = ((ExcerptContext) tailer).wire().bytes();
        long from = mapped.readPosition();
        Queues.touchForReading(mapped.bytesStore(), from, from + Queues.touched(role));
    }

    /** Checks the next record, if there is one. */
    boolean poll() {
        try (DocumentContext document = tailer.readingDocument()) {
            if (!document.isPresent()) {
                return false;
            }
            Bytes<?> bytes = document.wire().bytes();
            incoming.check(bytes.addressForRead(bytes.readPosition()), bytes.readRemaining());
            return true;
        }
    }

    /** Checks the next record, if there is one, and counts how late it is. */
    boolean poll(Histogram latencies, long ignored) {
        try (DocumentContext document = tailer.readingDocument()) {
            if (!document.isPresent()) {
                return false;
            }
            Bytes<?> bytes = document.wire().bytes();
            long address = bytes.addressForRead(bytes.readPosition());
            incoming.check(address, bytes.readRemaining());
            if (incoming.received() > ignored) {
                long late = System.nanoTime() - Payload.Incoming.due(address);
                latencies.recordValue(Math.min(Math.max(late, 0), Outcome.LONGEST));
            }
            return true;
        }
    }

    @Override
    public void close() {
        tailer.close();
        queue.close();
    }
}
