package io.instanttensor;

import static com.tngtech.archunit.base.DescribedPredicate.not;
import static com.tngtech.archunit.core.domain.JavaClass.Predicates.belongToAnyOf;
import static com.tngtech.archunit.core.domain.JavaClass.Predicates.resideInAPackage;
import static com.tngtech.archunit.core.domain.JavaClass.Predicates.resideInAnyPackage;
import static com.tngtech.archunit.lang.syntax.ArchRuleDefinition.noClasses;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.tngtech.archunit.core.domain.JavaClass;
import com.tngtech.archunit.core.domain.JavaClasses;
import com.tngtech.archunit.core.importer.ClassFileImporter;
import com.tngtech.archunit.core.importer.ImportOption;
import java.io.IOException;
import java.lang.foreign.Linker;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

/// The path is a path: a stage knows only the stages before it.
class ArchitectureTest {
    private static final String ROOT = "io.instanttensor";
    private static final Path SOURCES = Path.of("src/main/java");
    private static final int MAX_LINES = 400;

    /// In order; each may use those before it. Device and its CUDA half count as one.
    private static final List<List<String>> STAGES = List.of(
            List.of(ROOT + ".posix", ROOT + ".jfr"), List.of(ROOT + ".cufile"), List.of(ROOT + ".file"),
            List.of(ROOT + ".header"), List.of(ROOT + ".plan"), List.of(ROOT + ".read"), List.of(ROOT + ".device"),
            List.of(ROOT + ".device.cuda"), List.of(ROOT + ".stage"), List.of(ROOT + ".slab"),
            List.of(ROOT + ".dlpack"), List.of(ROOT), List.of(ROOT + ".bridge"));

    private static JavaClasses classes;

    @BeforeAll
    static void importClasses() {
        classes = new ClassFileImporter()
                .withImportOption(ImportOption.Predefined.DO_NOT_INCLUDE_TESTS)
                .importPackages(ROOT);
    }

    @Test
    void everyClassFileHasBeenUnderstood() throws IOException {
        // A class file of a version that ArchUnit does not know is left out, and all rules hold of nothing.
        Set<String> found = classes.stream()
                .filter(type -> !type.isNestedClass())
                .map(JavaClass::getName)
                .collect(Collectors.toCollection(TreeSet::new));
        Set<String> expected = sources().stream()
                .filter(source -> !source.endsWith("package-info.java"))
                .map(source -> SOURCES.relativize(source).toString().replace('/', '.').replaceAll("\\.java$", ""))
                .collect(Collectors.toCollection(TreeSet::new));
        assertEquals(expected, found.stream().filter(name -> !name.endsWith("package-info"))
                .collect(Collectors.toCollection(TreeSet::new)));
    }

    @Test
    void everyPackageIsAStage() {
        Set<String> stages = STAGES.stream().flatMap(List::stream).collect(Collectors.toSet());
        assertEquals(stages, classes.stream().map(JavaClass::getPackageName).collect(Collectors.toSet()));
    }

    @Test
    void stageUsesOnlyTheStagesBeforeIt() {
        for (int i = 0; i < STAGES.size() - 1; i++) {
            String[] later = STAGES.stream().skip(i + 1).flatMap(List::stream).toArray(String[]::new);
            noClasses().that(resideInAnyPackage(STAGES.get(i).toArray(String[]::new)))
                    .should().dependOnClassesThat(resideInAnyPackage(later))
                    .because("a stage uses only the stages before it")
                    .check(classes);
        }
    }

    @Test
    void posixAndEventsKnowNothingOfOurs() {
        for (String base : STAGES.getFirst()) {
            noClasses().that(resideInAPackage(base))
                    .should().dependOnClassesThat(resideInAPackage(ROOT + "..").and(not(resideInAPackage(base))))
                    .check(classes);
        }
    }

    @Test
    void onlyTheCudaDeviceTouchesJcuda() {
        noClasses().that(not(resideInAPackage(ROOT + ".device.cuda")))
                .should().dependOnClassesThat(resideInAPackage("jcuda.."))
                .check(classes);
    }

    @Test
    void onlyTheRootFaceChoosesTheCudaDevice() {
        noClasses().that(not(resideInAPackage(ROOT + ".device.cuda")).and(not(belongToAnyOf(DeviceHome.class))))
                .should().dependOnClassesThat(resideInAPackage(ROOT + ".device.cuda"))
                .check(classes);
    }

    @Test
    void onlyHeadersAndIndexesAreJson() {
        noClasses().that(not(resideInAnyPackage(ROOT + ".header", ROOT + ".file")))
                .should().dependOnClassesThat(resideInAPackage("tools.jackson.."))
                .check(classes);
    }

    @Test
    void foreignFunctionsAreCalledFromPosixAndCufileAndMadeForDlpackOnly() {
        noClasses().that(not(resideInAnyPackage(ROOT + ".posix", ROOT + ".cufile", ROOT + ".dlpack")))
                .should().dependOnClassesThat(belongToAnyOf(
                        Linker.class, java.lang.foreign.FunctionDescriptor.class))
                .check(classes);
    }

    @Test
    void noClassHasMoreThan400Lines() throws IOException {
        for (Path source : sources()) {
            long lines = Files.readAllLines(source).size();
            assertTrue(lines <= MAX_LINES, source + " has " + lines + " lines");
        }
    }

    private static List<Path> sources() throws IOException {
        try (Stream<Path> all = Files.walk(SOURCES)) {
            List<Path> sources = all.filter(path -> path.toString().endsWith(".java")).toList();
            assertTrue(sources.size() > 50, "found only " + sources.size() + " sources");
            return sources;
        }
    }
}
