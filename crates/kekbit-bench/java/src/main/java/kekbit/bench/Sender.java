package kekbit.bench;

import java.nio.file.Path;
import net.openhft.chronicle.bytes.Bytes;
import net.openhft.chronicle.queue.ExcerptAppender;
import net.openhft.chronicle.queue.impl.single.InternalAppender;
import net.openhft.chronicle.queue.impl.single.SingleChronicleQueue;

/** The sending side: an appender. */
final class Sender implements AutoCloseable {
    final Payload.Outgoing outgoing;
    private final SingleChronicleQueue queue;
    private final ExcerptAppender appender;

    /** Creates a queue, with its first file, and touches the pages of that where it is known how many will be used. */
    Sender(Role role, Path path) {
        outgoing = new Payload.Outgoing(role.size, role.sequenceAt());
        queue = Queues.open(role, path, false);
        appender = queue.createAppender();
        appender.singleThreadedCheckDisabled(true);
        // A queue has no file before its first document; one of metadata is skipped by those who read.
        try (var document = appender.writingDocument(true)) {
            document.wire().bytes().writeInt(0);
        }
        var mapped = ((InternalAppender) appender).wire().bytes();
        long from = mapped.writePosition();
        Queues.touchForWriting(mapped.bytesStore(), from, from + Queues.touched(role));
    }

    void send(Bytes<?> record) {
        appender.writeBytes(record);
    }

    @Override
    public void close() {
        appender.close();
        queue.close();
    }
}
