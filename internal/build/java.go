package build

import (
	"archive/zip"
	"bufio"
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	javaInstall      = "apt install default-jdk-headless"
	javaManifestMax  = 1 << 20
	javaManifestName = "META-INF/MANIFEST.MF"
)

func chooseJava(ctx context.Context, j *job) ([]tool, error) {
	if _, err := j.declared(); err != nil {
		return nil, err
	}
	c, err := j.versioned("Java", javaInstall, "jdk")
	if err != nil {
		return nil, err
	}
	have := j.javas(ctx)
	t, err := j.take(c, have)
	if err != nil {
		return nil, err
	}
	tools := []tool{t}
	e := j.machine
	switch {
	case j.has("pom.xml") && !j.has("mvnw"):
		path, ok := e.find("mvn")
		if !ok {
			return nil, refuse(Prepare, "apt install maven, or add the Maven wrapper (mvnw)", "pom.xml needs Maven, which this machine does not have")
		}
		tools = append(tools, tool{Name: "Maven", Path: path})
	case j.gradle() && !j.has("gradlew"):
		path, ok := e.find("gradle")
		if !ok {
			return nil, refuse(Prepare, "add the Gradle wrapper (gradlew), or apt install gradle", "build.gradle needs Gradle, which this machine does not have")
		}
		tools = append(tools, tool{Name: "Gradle", Path: path})
	}
	return tools, nil
}

func (j *job) gradle() bool {
	return !j.has("pom.xml") && j.firstOf("build.gradle", "build.gradle.kts") != ""
}

// javas lists the machine's Java runtimes: JAVA_HOME's, PATH's and the system's.
func (j *job) javas(ctx context.Context) []tool {
	e := j.environ(nil, nil)
	var paths []string
	if home := e["JAVA_HOME"]; filepath.IsAbs(home) {
		paths = append(paths, filepath.Join(home, "bin", "java"))
	}
	if path, ok := e.find("java"); ok {
		paths = append(paths, path)
	}
	if j.recipe.RuntimeConfig["runtime_version"] != "" {
		for _, pattern := range []string{"/usr/lib/jvm/*/bin/java", "/Library/Java/JavaVirtualMachines/*/Contents/Home/bin/java"} {
			found, _ := filepath.Glob(pattern)
			paths = append(paths, found...)
		}
	}
	var have []tool
	for _, path := range paths {
		to, err := filepath.EvalSymlinks(path)
		if err != nil || slices.ContainsFunc(have, func(t tool) bool { return t.Path == to }) {
			continue
		}
		// "--version" writes to the standard output, unlike "-version"; Java 8 lacks it.
		if said, err := j.ask(ctx, e, path, "--version"); err == nil {
			have = append(have, tool{"Java", to, versionForm.FindString(said)})
		}
	}
	return have
}

func buildJava(ctx context.Context, j *job) (made, error) {
	bin := filepath.Dir(j.tools[0].Path)
	home := filepath.Dir(bin)
	env := j.environ([]string{bin}, environ{"JAVA_HOME": home})
	var argv []string
	jars := "*.jar"
	switch {
	case j.has("pom.xml"):
		argv, jars = []string{"mvn", "--batch-mode", "-DskipTests", "package"}, "target/*.jar"
		if j.has("mvnw") {
			argv[0] = "./mvnw"
		}
	case j.gradle():
		argv, jars = []string{"gradle", "--no-daemon", "--console=plain", "assemble"}, "build/libs/*.jar"
		if j.has("gradlew") {
			argv[0] = "./gradlew"
		}
	}
	if argv != nil && !j.skipInstall() {
		if wrapper, ok := strings.CutPrefix(argv[0], "./"); ok {
			argv = append([]string{"sh", wrapper}, argv[1:]...) // it may have lost its mode
		}
		if err := j.run(ctx, command{phase: Compile, argv: argv, env: env, next: "correct the code or the build file"}); err != nil {
			return made{}, err
		}
	}
	m := made{Path: j.before(j.tools[0], "java"), Env: map[string]string{"JAVA_HOME": home}}
	var err error
	if m.Command, err = j.declared(); err != nil || m.Command != "" {
		return m, err
	}
	found, _ := filepath.Glob(filepath.Join(j.at.app, filepath.FromSlash(jars)))
	found = slices.DeleteFunc(found, func(path string) bool { return !executableJar(path) })
	if len(found) != 1 {
		return made{}, refuse(Prepare, "add a line such as \"entrypoint: java -jar "+strings.Replace(jars, "*", "app", 1)+"\" to app.yaml",
			"there are %d jars with a Main-Class among %s, and no entrypoint", len(found), jars)
	}
	jar, err := filepath.Rel(j.at.app, found[0])
	if err != nil {
		return made{}, err
	}
	// App Engine's port is always 8080, which is also what Spring Boot listens on
	// when nobody tells; here it must be told.
	m.Command = "env SERVER_PORT=$PORT java -jar " + shellQuote(filepath.ToSlash(jar))
	return m, nil
}

// executableJar says whether "java -jar" can start a jar.
func executableJar(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return false
	}
	z, err := zip.NewReader(f, info.Size())
	if err != nil {
		return false
	}
	r, err := z.Open(javaManifestName)
	if err != nil {
		return false
	}
	defer r.Close()
	lines := bufio.NewScanner(io.LimitReader(r, javaManifestMax))
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "Main-Class:") {
			return true
		}
	}
	return false
}
