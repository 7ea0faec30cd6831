package io.instanttensor.device;

import java.lang.foreign.MemorySegment;
import java.util.Optional;

/// Resources that no device of ours made.
final class Strangers {
    private Strangers() {}

    record Memory() implements DeviceMemory {
        @Override
        public long address() {
            return 0;
        }

        @Override
        public long bytes() {
            return Long.MAX_VALUE;
        }

        @Override
        public Optional<MemorySegment> hostView() {
            return Optional.empty();
        }

        @Override
        public void close() {}

        @Override
        public String toString() {
            return "a stranger";
        }
    }

    record Mark() implements Fence {
        @Override
        public boolean passed() {
            return false;
        }

        @Override
        public void await() {}

        @Override
        public void close() {}

        @Override
        public String toString() {
            return "a stranger";
        }
    }
}
