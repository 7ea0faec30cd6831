package io.instanttensor.read;

class MmapTest extends BufferedReadContract {
    @Override
    Backend backend() {
        return Backend.MMAP;
    }

    @Override
    String call() {
        return "pread";
    }
}
