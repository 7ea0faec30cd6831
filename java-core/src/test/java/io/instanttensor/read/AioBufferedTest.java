package io.instanttensor.read;

class AioBufferedTest extends BufferedReadContract {
    @Override
    Backend backend() {
        return Backend.AIO_BUFFERED;
    }

    @Override
    String call() {
        return "pread";
    }
}
