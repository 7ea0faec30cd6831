package io.instanttensor.device;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Random;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.function.Executable;

/// A device that is open and entered while a test runs, and what the contract looks at it with.
abstract class DeviceFixture {
    static final long KIB = 1024;

    Device device;
    Device.Scope scope;

    abstract Device openDevice();

    /// Makes copies slow, where they do not happen at once: a missing wait then shows as wrong bytes.
    abstract void slowDownCopies();

    /// How messages name a staging buffer of 1024 bytes.
    abstract String stagingName();

    @BeforeEach
    void open() {
        device = openDevice();
        scope = device.enter();
    }

    @AfterEach
    void close() {
        scope.close();
        device.close();
    }

    StagingMemory filled(int value) {
        StagingMemory staging = device.allocateStaging(KIB);
        staging.segment().fill((byte) value);
        return staging;
    }

    StagingMemory staged(byte[] content) {
        StagingMemory staging = device.allocateStaging(content.length);
        staging.segment().copyFrom(MemorySegment.ofArray(content));
        return staging;
    }

    static byte[] bytes(DeviceMemory memory, long offset, long count) {
        return MemorySegment.ofAddress(memory.address() + offset)
                .reinterpret(count)
                .toArray(ValueLayout.JAVA_BYTE);
    }

    static byte[] random(long count) {
        byte[] bytes = new byte[Math.toIntExact(count)];
        new Random(42).nextBytes(bytes);
        return bytes;
    }

    static void closed(String message, Executable use) {
        refused(IllegalStateException.class, message, use);
    }

    static void refused(Class<? extends Exception> type, String message, Executable use) {
        assertEquals(message, assertThrows(type, use).getMessage());
    }
}
