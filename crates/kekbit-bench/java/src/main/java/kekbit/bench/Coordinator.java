package kekbit.bench;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.CountDownLatch;

/** The lines that a role and the coordinator say to each other. */
final class Coordinator {
    private final CountDownLatch go = new CountDownLatch(1);
    private final CountDownLatch end = new CountDownLatch(1);
    private volatile boolean concluded;

    Coordinator() {
        Thread thread = new Thread(this::listen, "coordinator");
        thread.setDaemon(true);
        thread.start();
    }

    private void listen() {
        try {
            BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
            String line = lines.readLine();
            if (line != null && !line.equals("go")) {
                throw new IOException("expected \"go\", not \"" + line + "\"");
            }
            if (line != null) {
                go.countDown();
                lines.readLine();
            }
            if (!concluded) {
                throw new IOException("the coordinator has gone");
            }
            end.countDown();
        } catch (IOException error) {
            System.err.println(error);
            // A coordinator that is killed leaves nobody behind who spins.
            Runtime.getRuntime().halt(1);
        }
    }

    void say(String line) {
        System.out.println(line);
        System.out.flush();
    }

    void waitForGo() throws InterruptedException {
        go.await();
    }

    /** Says what came out, and waits until the coordinator has heard it from everybody. */
    void conclude(Outcome outcome) throws InterruptedException {
        concluded = true;
        say(outcome.json());
        end.await();
    }
}
