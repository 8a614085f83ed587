package kekbit.bench;

import net.openhft.affinity.Affinity;

/**
 * Plays one role of a measurement over Chronicle Queue: the sender or the receiver. The arguments, the lines it speaks and
 * the workloads are those of kekbit-bench, see src/roles.rs there.
 */
public final class Main {
    private Main() {}

    public static void main(String[] arguments) {
        try {
            Role role = Role.parse(arguments);
            Coordinator coordinator = new Coordinator();
            // This thread alone: those of the virtual machine stay wherever there is time for them.
            Affinity.setAffinity(role.core);
            play(role, coordinator);
            System.exit(0);
        } catch (Throwable error) {
            System.err.println(error);
            // The threads of the library would go on otherwise.
            Runtime.getRuntime().halt(1);
        }
    }

    private static void play(Role role, Coordinator coordinator) throws Exception {
        WarmUp.run(role);
        switch (role.workload) {
            case "stream", "sustained", "open-loop" -> oneWay(role, coordinator);
            case "pingpong" -> roundTrips(role, coordinator);
            default -> throw new IllegalArgumentException("Chronicle Queue takes no part in " + role.workload);
        }
    }

    private static void oneWay(Role role, Coordinator coordinator) throws Exception {
        boolean openLoop = role.workload.equals("open-loop");
        if (role.sender) {
            try (Sender sender = new Sender(role, role.directory.resolve(role.link))) {
                coordinator.say("created");
                coordinator.say("ready");
                coordinator.waitForGo();
                Outcome outcome = openLoop ? Workloads.sendAtRate(sender, role) : Workloads.send(sender, role);
                coordinator.conclude(outcome);
            }
        } else {
            try (Receiver receiver = new Receiver(role, role.directory.resolve(role.link))) {
                receiver.prepare();
                coordinator.say("ready");
                coordinator.waitForGo();
                coordinator.conclude(openLoop ? Workloads.receiveAtRate(receiver, role) : Workloads.receive(receiver, role));
            }
        }
    }

    private static void roundTrips(Role role, Coordinator coordinator) throws Exception {
        var there = role.directory.resolve(role.link);
        var back = role.directory.resolve(role.link + "-back");
        try (Sender sender = new Sender(role, role.sender ? there : back)) {
            if (role.sender) {
                coordinator.say("created");
            }
            try (Receiver receiver = new Receiver(role, role.sender ? back : there)) {
                receiver.prepare();
                coordinator.say("ready");
                coordinator.waitForGo();
                coordinator.conclude(
                        role.sender ? Workloads.ping(sender, receiver, role) : Workloads.pong(receiver, sender, role));
            }
        }
    }
}
