package io.instanttensor.posix;

import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Future;

/// Does the same for many files: one after the other where that takes no time, and otherwise for the rest at
/// once, since on a network each is some round trips.
public final class Patiently {
    private static final long PATIENCE_NANOS = 5_000_000;

    private Patiently() {}

    /// What is done for one.
    public interface Task<A, B> {
        B of(A item) throws IOException;
    }

    /// @param results gets those that there are, in order, also where one failed
    /// @param doing what, for threads' names and for messages
    /// @throws IOException of the first item in order that failed; as any other exception
    public static <A, B> void each(List<A> items, Task<A, B> task, List<B> results, String doing) throws IOException {
        long start = System.nanoTime();
        for (A item : items) {
            if (System.nanoTime() - start > PATIENCE_NANOS) {
                atOnce(items.subList(results.size(), items.size()), task, results, doing);
                return;
            }
            results.add(task.of(item));
        }
    }

    private static <A, B> void atOnce(List<A> items, Task<A, B> task, List<B> results, String doing)
            throws IOException {
        List<Future<B>> outcomes = new ArrayList<>(items.size());
        Throwable notAsked = null;
        try (ExecutorService threads = EngineThreads.pool(items.size(), "instanttensor-" + doing + "-")) {
            for (A item : items) {
                outcomes.add(threads.submit(() -> task.of(item)));
            }
        } catch (RuntimeException | Error e) {
            // A thread did not start. What was asked for before has its results all the same.
            notAsked = e;
        }
        Throwable failure = null;
        for (Future<B> outcome : outcomes) {
            try {
                results.add(Outcome.of(outcome, doing));
            } catch (IOException | RuntimeException | Error e) {
                failure = failure == null ? e : failure;
            }
        }
        switch (failure == null ? notAsked : failure) {
            case null -> { }
            case IOException io -> throw io;
            case RuntimeException runtime -> throw runtime;
            case Error error -> throw error;
            case Throwable other -> throw new AssertionError(other);
        }
    }
}
