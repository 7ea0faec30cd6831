package io.instanttensor.file;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assumptions.assumeFalse;

import io.instanttensor.posix.Errno;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class CheckpointPathsTest {
    @TempDir
    Path dir;

    private Path file(String name) throws IOException {
        Path path = dir.resolve(name);
        Files.createDirectories(path.getParent());
        return Files.write(path, new byte[8]);
    }

    private Path index(String name, String weightMap) throws IOException {
        Path path = dir.resolve(name);
        Files.createDirectories(path.getParent());
        return Files.writeString(path, "{\"metadata\":{\"total_size\":1},\"weight_map\":" + weightMap + "}");
    }

    private static List<Path> files(Path... named) throws IOException {
        return CheckpointPaths.resolve(List.of(named)).files();
    }

    @Test
    void filesAreOrderedByNameThenByWholePath() throws IOException {
        Path second = file("z/m-1.safetensors");
        Path first = file("a/m-1.safetensors");
        Path last = file("a/m-2.safetensors");
        Path upperCase = file("z/M.safetensors");

        assertEquals(List.of(upperCase, first, second, last), files(last, second, upperCase, first));
    }

    @Test
    void theCallersListIsLeftAlone() throws IOException {
        List<Path> named = new ArrayList<>(List.of(file("b"), file("a")));
        List<Path> before = List.copyOf(named);

        CheckpointPaths.resolve(named);

        assertEquals(before, named);
    }

    @Test
    void aFileNeedsNoSpecialName() throws IOException {
        Path file = file("blob");

        assertEquals(new ResolvedPaths(List.of(file), Map.of()), CheckpointPaths.resolve(List.of(file)));
    }

    @Test
    void aFileNamedTwiceCountsOnceUnderItsFirstName() throws IOException {
        Path file = file("model/a.safetensors");
        Path other = dir.resolve("model/../model/./a.safetensors");
        Path link = Files.createSymbolicLink(dir.resolve("link"), dir.resolve("model"));

        assertEquals(List.of(file), files(file, other, link, link.resolve("a.safetensors")));
        assertEquals(List.of(other), files(other, file));
    }

    @Test
    void twoLinksToOneFileAreTwoFiles() throws IOException {
        Path blob = file("blobs/0123");
        Path first = Files.createSymbolicLink(dir.resolve("m-1.safetensors"), blob);
        Path second = Files.createSymbolicLink(dir.resolve("m-2.safetensors"), blob);

        assertEquals(List.of(first, second), files(second, first));
    }

    @Test
    void aFolderGivesItsOwnVisibleSafetensorsFiles() throws IOException {
        Path b = file("b.safetensors");
        Path a = file("a.safetensors");
        file(".hidden.safetensors");
        file("deeper/c.safetensors");
        file("folder.safetensors/d");
        file("a.safetensors.tmp");
        file("config.json");

        assertEquals(List.of(a, b), files(dir));
    }

    @Test
    void aFolderWithAnIndexGivesWhatTheIndexNames() throws IOException {
        Path first = file("model-1.safetensors");
        Path second = file("parts/model-2.safetensors");
        file("consolidated.safetensors");
        index("other.safetensors.index.json", "{\"x\":\"consolidated.safetensors\"}");
        index("model.safetensors.index.json",
                "{\"b\":\"./parts/model-2.safetensors\",\"a\":\"model-1.safetensors\",\"c\":\"model-1.safetensors\"}");

        assertEquals(
                new ResolvedPaths(List.of(first, second), Map.of("a", first, "b", second, "c", first)),
                CheckpointPaths.resolve(List.of(dir)));
    }

    @Test
    void aSingleIndexMayHaveAnyName() throws IOException {
        Path file = file("fp16-1.safetensors");
        index("fp16.safetensors.index.json", "{\"a\":\"fp16-1.safetensors\"}");
        index(".hidden.safetensors.index.json", "{\"a\":\"nowhere\"}");

        assertEquals(new ResolvedPaths(List.of(file), Map.of("a", file)), CheckpointPaths.resolve(List.of(dir)));
    }

    @Test
    void severalIndexesAreNamedAndNoneIsGuessed() throws IOException {
        file("a.safetensors");
        index("fp32.safetensors.index.json", "{\"a\":\"a.safetensors\"}");
        index("fp16.safetensors.index.json", "{\"a\":\"a.safetensors\"}");

        FileException e = assertThrows(FileException.class, () -> files(dir));

        assertEquals(dir + ": expected one index, or one called model.safetensors.index.json, found"
                + " fp16.safetensors.index.json, fp32.safetensors.index.json: name the one to load", e.getMessage());
        assertEquals(Errno.EINVAL, e.errno());
    }

    @Test
    void anIndexCanBeNamedItself() throws IOException {
        Path file = file("a.safetensors");
        Path index = index("fp16.safetensors.index.json", "{\"x\":\"a.safetensors\"}");
        index("fp32.safetensors.index.json", "{\"x\":\"b.safetensors\"}");

        assertEquals(new ResolvedPaths(List.of(file), Map.of("x", file)), CheckpointPaths.resolve(List.of(index)));
    }

    @Test
    void anIndexSpeaksOfAFileUnderTheNameThatItIsHandedOutUnder() throws IOException {
        file("model/a.safetensors");
        Path named = dir.resolve("model/./a.safetensors");
        index("model/model.safetensors.index.json", "{\"x\":\"a.safetensors\"}");

        assertEquals(
                new ResolvedPaths(List.of(named), Map.of("x", named)),
                CheckpointPaths.resolve(List.of(named, dir.resolve("model"))));
    }

    @Test
    void aTensorThatTwoIndexesClaimIsLeftToTheHeaders() throws IOException {
        Path one = file("one/1.safetensors");
        Path two = file("two/2.safetensors");
        Path first = index("one/model.safetensors.index.json", "{\"x\":\"1.safetensors\",\"y\":\"1.safetensors\"}");
        Path second = index("two/model.safetensors.index.json", "{\"x\":\"2.safetensors\",\"z\":\"2.safetensors\"}");

        assertEquals(
                new ResolvedPaths(List.of(one, two), Map.of("y", one, "z", two)),
                CheckpointPaths.resolve(List.of(first, second)));
    }

    @Test
    void nothingNamedIsAnError() {
        IllegalArgumentException e =
                assertThrows(IllegalArgumentException.class, () -> CheckpointPaths.resolve(List.of()));

        assertEquals("expected at least one file, folder or *.safetensors.index.json, found none", e.getMessage());
    }

    @Test
    void aMissingPathIsNamed() {
        Path path = dir.resolve("nowhere/a.safetensors");

        FileException e = assertThrows(FileException.class, () -> files(path));

        assertEquals(path + ": no such file or folder", e.getMessage());
        assertEquals(Errno.ENOENT, e.errno());
    }

    @Test
    void aLinkToNothingIsMissing() throws IOException {
        Path link = Files.createSymbolicLink(dir.resolve("a.safetensors"), dir.resolve("gone"));

        FileException e = assertThrows(FileException.class, () -> files(link));

        assertEquals(link + ": no such file or folder", e.getMessage());
        assertEquals(Errno.ENOENT, e.errno());
    }

    @Test
    void aPathThroughAFileLeadsNowhere() throws IOException {
        Path path = file("a.safetensors").resolve("b");

        FileException e = assertThrows(FileException.class, () -> files(path));

        assertEquals(path + ": no such file or folder", e.getMessage());
        assertEquals(Errno.ENOENT, e.errno());
    }

    @Test
    void aFolderWithoutSafetensorsIsAMissingFile() throws IOException {
        file("pytorch_model.bin");

        FileException e = assertThrows(FileException.class, () -> files(dir));

        assertEquals(dir + ": the folder holds no safetensors file", e.getMessage());
        assertEquals(Errno.ENOENT, e.errno());
    }

    @Test
    void anIndexThatNamesAMissingFileIsNamedWithIt() throws IOException {
        Path index = index("model.safetensors.index.json", "{\"x\":\"gone.safetensors\"}");

        FileException e = assertThrows(FileException.class, () -> files(dir));

        assertEquals(dir.resolve("gone.safetensors") + ": no such file, though " + index + " names it for tensor x",
                e.getMessage());
        assertEquals(Errno.ENOENT, e.errno());
    }

    @Test
    void whatMayNotBeReadIsRefused() throws IOException {
        Path file = file("secret/a.safetensors");
        Path index = index("model.safetensors.index.json", "{\"x\":\"secret/a.safetensors\"}");
        Path folder = file.getParent();
        for (Path path : List.of(file, index, folder)) {
            Files.setPosixFilePermissions(path, PosixFilePermissions.fromString("--x--x--x"));
        }
        try {
            assumeFalse(Files.isReadable(file), "root reads everything");

            for (Path path : List.of(file, index, folder)) {
                FileException e = assertThrows(FileException.class, () -> files(path));
                assertEquals(path + ": no permission to read it", e.getMessage());
                assertEquals(Errno.EACCES, e.errno());
            }
        } finally {
            Files.setPosixFilePermissions(folder, PosixFilePermissions.fromString("rwxr-xr-x"));
        }
    }
}
