package kekbit.bench;

import java.nio.file.Path;
import net.openhft.chronicle.bytes.BytesStore;
import net.openhft.chronicle.queue.RollCycle;
import net.openhft.chronicle.queue.impl.StoreFileListener;
import net.openhft.chronicle.queue.impl.single.SingleChronicleQueue;
import net.openhft.chronicle.queue.impl.single.SingleChronicleQueueBuilder;
import net.openhft.chronicle.queue.rollcycles.SparseRollCycles;
import net.openhft.chronicle.queue.rollcycles.TestRollCycles;

/** How queues are opened, alike on both sides. */
final class Queues {
    /** As many bytes as a file may have whose pages are touched beforehand. */
    private static final long MOST = 8L << 30;
    /** Bytes that are mapped at once otherwise. */
    private static final long BLOCK = 256 << 20;
    /** Beside the records, the index and its own header are in the file. */
    private static final long INDEX = 64 << 20;

    private Queues() {}

    /**
     * Opens or creates a queue. Where it is known that they fit, one file and one mapping hold all records; otherwise the file
     * changes each second, and whoever has read one removes it.
     */
    static SingleChronicleQueue open(Role role, Path path, boolean removes) {
        boolean known = isKnown(role);
        RollCycle cycle = known ? SparseRollCycles.HUGE_DAILY_XSPARSE : TestRollCycles.TEST_SECONDLY;
        SingleChronicleQueueBuilder builder = SingleChronicleQueueBuilder.binary(path)
                .rollCycle(cycle)
                .indexSpacing(SparseRollCycles.HUGE_DAILY_XSPARSE.defaultIndexSpacing())
                .blockSize(known ? roundUp(role.space() + INDEX) : BLOCK);
        if (removes && !known) {
            builder.storeFileListener((StoreFileListener) (number, file) -> {
                if (!file.delete()) {
                    System.err.println("cannot remove " + file);
                }
            });
        }
        return builder.build();
    }

    private static boolean isKnown(Role role) {
        return role.records >= 0 && role.space() + INDEX <= MOST;
    }

    /** Bytes that are to be touched before they are needed. */
    static long touched(Role role) {
        return isKnown(role) ? role.space() : 0;
    }

    private static long roundUp(long bytes) {
        return Math.max(64 << 20, Long.highestOneBit(bytes - 1) << 1);
    }

    /**
     * Touches pages before they are needed, in the way in which the library's own writers do that for the next page: by an
     * exchange of zero for zero.
     */
    static void touchForWriting(BytesStore<?, ?> mapped, long from, long to) {
        for (long page = from & ~0xFFFL; page < to; page += 4096) {
            if (mapped.inside(page, 8)) {
                mapped.compareAndSwapLong(page, 0, 0);
            }
        }
    }

    static void touchForReading(BytesStore<?, ?> mapped, long from, long to) {
        for (long page = from & ~0xFFFL; page < to; page += 4096) {
            if (mapped.inside(page, 8)) {
                mapped.readVolatileLong(page);
            }
        }
    }
}
