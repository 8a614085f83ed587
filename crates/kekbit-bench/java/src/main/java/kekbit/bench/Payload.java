package kekbit.bench;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import net.openhft.chronicle.bytes.Bytes;
import net.openhft.chronicle.core.UnsafeMemory;

/** What is in the records, as src/payload.rs says, and the check that it has arrived. */
final class Payload {
    /** The sequence of the record that says that no more will come. */
    static final long LAST = -1;

    private static final boolean SWAP = ByteOrder.nativeOrder() == ByteOrder.BIG_ENDIAN;

    private Payload() {}

    private static byte[] pattern(int size) {
        byte[] pattern = new byte[size];
        for (int i = 0; i < size; i++) {
            pattern[i] = (byte) (i * 131 + 89);
        }
        return pattern;
    }

    /** The number that has these bytes little endian, or the other way round. */
    private static long littleEndian(long number) {
        return SWAP ? Long.reverseBytes(number) : number;
    }

    /** The sender's records. */
    static final class Outgoing {
        /** As in src/payload.rs: a number is written some records before it is copied. */
        private static final int SLOTS = 8;
        private static final int LEAD = 4;

        private final Bytes<?>[] slots = new Bytes<?>[SLOTS];
        private final int at;
        private long sequence;

        Outgoing(int size, int at) {
            if (size < at + 8) {
                throw new IllegalArgumentException(
                        "records of " + size + " bytes are too short: they need " + (at + 8) + " at least");
            }
            this.at = at;
            for (int i = 0; i < SLOTS; i++) {
                slots[i] = Bytes.allocateDirect(size);
                slots[i].write(pattern(size));
            }
            for (int i = 0; i < LEAD; i++) {
                stamp(i);
            }
        }

        private void stamp(long sequence) {
            slots[(int) (sequence & SLOTS - 1)].writeLong(at, littleEndian(sequence));
        }

        Bytes<?> next() {
            long sequence = this.sequence++;
            stamp(sequence + LEAD);
            return slots[(int) (sequence & SLOTS - 1)];
        }

        /** The next record, with the time when it is due. */
        Bytes<?> next(long due) {
            Bytes<?> record = next();
            record.writeLong(0, littleEndian(due));
            return record;
        }

        Bytes<?> last() {
            stamp(LAST);
            return slots[SLOTS - 1];
        }
    }

    /** What the receiver expects. */
    static final class Incoming {
        private final int size;
        private final int at;
        /** The pattern, in whole words. */
        private final long[] pattern;
        private long received;
        private boolean ended;

        Incoming(int size, int at) {
            this.size = size;
            this.at = at;
            pattern = new long[size / 8];
            ByteBuffer.wrap(pattern(size)).order(ByteOrder.nativeOrder()).asLongBuffer().get(pattern);
        }

        long received() {
            return received;
        }

        boolean hasEnded() {
            return ended;
        }

        /** The time when a record was due. */
        static long due(long address) {
            return littleEndian(UnsafeMemory.INSTANCE.readLong(address));
        }

        /** Looks at each byte of a record. */
        void check(long address, long length) {
            if (length != size) {
                throw wrong("a record of " + length + " bytes instead of " + size);
            }
            int words = size >>> 3;
            long difference = 0;
            for (int i = at / 8 + 1; i < words; i++) {
                difference |= UnsafeMemory.INSTANCE.readLong(address + 8L * i) ^ pattern[i];
            }
            // Bytes behind the last whole word, at most 7.
            for (int i = Math.max(words * 8, at + 8); i < size; i++) {
                difference |= UnsafeMemory.INSTANCE.readByte(address + i) ^ (byte) (i * 131 + 89);
            }
            long sequence = littleEndian(UnsafeMemory.INSTANCE.readLong(address + at));
            if (difference == 0 && sequence == received && !ended) {
                received++;
            } else {
                lookClosely(difference, sequence);
            }
        }

        private void lookClosely(long difference, long sequence) {
            if (difference != 0) {
                throw wrong("changed bytes");
            }
            if (ended) {
                throw wrong("a record behind the last one");
            }
            if (sequence != LAST) {
                throw wrong("sequence " + sequence + " instead of " + received);
            }
            ended = true;
        }

        private IllegalStateException wrong(String what) {
            return new IllegalStateException("after " + received + " good records: " + what);
        }
    }
}
