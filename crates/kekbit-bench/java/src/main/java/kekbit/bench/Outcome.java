package kekbit.bench;

import java.nio.ByteBuffer;
import java.util.Arrays;
import java.util.Base64;
import org.HdrHistogram.Histogram;

/** What a role has to say in the end. The histogram may be null. */
record Outcome(long records, long begun, long ended, Histogram histogram) {
    /** Latencies in nanoseconds are counted up to a minute, with three digits. */
    static final long LONGEST = 60_000_000_000L;

    static Histogram latencies() {
        return new Histogram(1, LONGEST, 3);
    }

    String json() {
        String line = "{\"records\":" + records + ",\"begun_ns\":" + begun + ",\"ended_ns\":" + ended;
        if (histogram != null) {
            ByteBuffer bytes = ByteBuffer.allocate(histogram.getNeededByteBufferCapacity());
            int length = histogram.encodeIntoCompressedByteBuffer(bytes);
            byte[] encoded = Base64.getEncoder().encode(Arrays.copyOf(bytes.array(), length));
            line += ",\"histogram\":\"" + new String(encoded, java.nio.charset.StandardCharsets.US_ASCII) + "\"";
        }
        return line + "}";
    }
}
