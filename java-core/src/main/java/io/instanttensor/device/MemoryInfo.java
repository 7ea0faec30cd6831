package io.instanttensor.device;

/// What a device has, and what of it nobody uses at the moment.
public record MemoryInfo(long freeBytes, long totalBytes) {}
