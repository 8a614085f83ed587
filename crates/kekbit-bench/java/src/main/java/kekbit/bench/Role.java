package kekbit.bench;

import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;

/** What a role is told. */
final class Role {
    final boolean sender;
    final String workload;
    final Path directory;
    final String link;
    /** Bytes of a record. */
    final int size;
    final int core;
    /** Records that pass; -1 if that is not known: until the time is up. */
    final long records;
    /** How long it takes; 0 if the number of records says so. */
    final double seconds;
    /** Records a second of the open loop. */
    final double rate;

    private Role(Map<String, String> options) {
        sender = switch (required(options, "--side")) {
            case "sender" -> true;
            case "receiver" -> false;
            default -> throw new IllegalArgumentException("--side is neither sender nor receiver");
        };
        workload = required(options, "--workload");
        directory = Path.of(required(options, "--dir"));
        link = required(options, "--link");
        size = Integer.parseInt(required(options, "--size"));
        core = Integer.parseInt(required(options, "--core"));
        seconds = Double.parseDouble(options.getOrDefault("--seconds", "0"));
        rate = Double.parseDouble(options.getOrDefault("--rate", "0"));
        String known = options.get("--records");
        if (known != null) {
            records = Long.parseLong(known);
        } else {
            records = rate > 0 ? (long) Math.ceil(rate * seconds) : -1;
        }
        if (records < 0 && seconds <= 0) {
            throw new IllegalArgumentException("neither the number of records nor the time is given");
        }
    }

    private Role(Role role, long records) {
        sender = role.sender;
        workload = role.workload;
        directory = role.directory;
        link = role.link;
        size = role.size;
        core = role.core;
        seconds = role.seconds;
        rate = role.rate;
        this.records = role.records < 0 ? -1 : records;
    }

    /** The same with another number of records, unless that is not known. */
    Role withRecords(long records) {
        return new Role(this, records);
    }

    /** Options and values in turn. Those that Chronicle Queue has no use for are ignored. */
    static Role parse(String[] arguments) {
        Map<String, String> options = new HashMap<>();
        for (int i = 0; i + 1 < arguments.length; i += 2) {
            options.put(arguments[i], arguments[i + 1]);
        }
        return new Role(options);
    }

    private static String required(Map<String, String> options, String name) {
        String value = options.get(name);
        if (value == null) {
            throw new IllegalArgumentException(name + " is missing");
        }
        return value;
    }

    /** Where the sequence stands in a record. */
    int sequenceAt() {
        return workload.equals("open-loop") ? 8 : 0;
    }

    /** Bytes that all records take in the file of a queue; 0 if that is not known. */
    long space() {
        // Each has a header of 4 bytes and begins at a multiple of 4.
        return records < 0 ? 0 : records * ((size + 7L) & ~3L);
    }
}
