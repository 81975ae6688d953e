package googleapi

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"holdfast/internal/app"
	"holdfast/internal/appyaml"
	"holdfast/internal/control"
	"holdfast/internal/source"
)

// appYAMLMax bounds the app.yaml among the files, in bytes; appyaml has a lower
// bound of its own.
const appYAMLMax = 1 << 20

// mainPackageFile is what gcloud's stager for Go adds to the files: the folder
// of the main package.
const mainPackageFile = "_main-package-path"

// buildableVar tells the build which package is the main one.
const buildableVar = "GOOGLE_BUILDABLE"

// wishVersion is a version as clients send it. Most of it is gcloud's rendering
// of an app.yaml that is among the files, complete: that is what counts, and of
// the rendering only what can tell that the two do not belong together.
type wishVersion struct {
	ID             string          `json:"id"`
	Env            string          `json:"env"`
	VM             bool            `json:"vm"`
	Runtime        string          `json:"runtime"`
	BetaSettings   map[string]text `json:"betaSettings"`
	ServiceAccount string          `json:"serviceAccount"`
	EnvVariables   map[string]text `json:"envVariables"`
	Manual         *wireManual     `json:"manualScaling"`
	Deployment     struct {
		Files     map[string]wishFile `json:"files"`
		Container *struct {
			Image string `json:"image"`
		} `json:"container"`
		Zip   *struct{} `json:"zip"`
		Build struct {
			AppYAMLPath string `json:"appYamlPath"`
		} `json:"cloudBuildOptions"`
	} `json:"deployment"`
}

type wishFile struct {
	SHA1      string `json:"sha1Sum"`
	SourceURL string `json:"sourceUrl"`
}

// createVersion deploys what was uploaded. Traffic stays where it is, unless it
// is the first version of its service: gcloud moves it with a request of its own.
func (d *door) createVersion(c *call) (any, error) {
	a, err := d.application(c)
	if err != nil {
		return nil, err
	}
	var w wishVersion
	if err := c.body(&w); err != nil {
		return nil, err
	}
	if err := w.check(); err != nil {
		return nil, err
	}
	tree, err := d.tree(w.Deployment.Files)
	if err != nil {
		return nil, err
	}
	v, err := d.read(tree, w)
	if err != nil {
		return nil, err
	}
	v.Key.App, v.Version = a.ID, w.ID
	if v.Service != c.path["service"] {
		return nil, wrong("version", "app.yaml says service %s, and the request deploys to %s", shown(v.Service), shown(c.path["service"]))
	}
	if err := appyaml.CheckKey(v.Key); err != nil {
		return nil, wrong("version.id", "%v", err)
	}
	first := len(d.Store.Wishes().Services[v.ServiceKey()].Split.Shares) == 0
	o, err := d.Control.Deploy(control.Deployment{Version: v, Promote: first, KeepOthers: true, Replace: true, By: c.by})
	return d.accepted(c, o, err)
}

// check refuses what is deployed from anything but files, or to anything but
// the flexible environment.
func (w wishVersion) check() error {
	switch {
	case w.ID == "":
		return wrong("version.id", "it is not there")
	case w.Deployment.Container != nil:
		return unsupported("container images", "Deploy the sources: without --image-url the server builds them")
	case w.Deployment.Zip != nil:
		return unsupported("sources in a zip file", "List the files in deployment.files, as gcloud does")
	case len(w.Deployment.Files) == 0:
		return wrong("version.deployment.files", "there are no files")
	}
	switch w.Env {
	case "flex", "flexible", "2":
		return nil
	case "":
		if w.VM {
			return nil
		}
	}
	return wrong("version.env", "%s: Holdfast runs the flexible environment; write env: flex into app.yaml", shown(w.Env))
}

// tree makes a source tree of a manifest whose files were all uploaded before.
// The modes of files do not reach us: what looks like a program may be run.
func (d *door) tree(files map[string]wishFile) (source.Tree, error) {
	const field = "version.deployment.files"
	if len(files) > source.FilesMax {
		return nil, wrong(field, "there are more than %d files", source.FilesMax)
	}
	var tree source.Tree
	for _, name := range slices.Sorted(maps.Keys(files)) {
		f := files[name]
		sum := f.SHA1
		if named := path.Base(f.SourceURL); f.SourceURL != "" && (sum == "" || isSHA1(named)) {
			if sum != "" && sum != named {
				return nil, wrong(field, "%s has the SHA-1 %s and is to come from %s", shown(name), shown(sum), shown(f.SourceURL))
			}
			sum = named
		}
		if !isSHA1(sum) {
			return nil, wrong(field, "%s: %s is no SHA-1 in lower-case hex", shown(name), shown(sum))
		}
		o, ok := d.shelf.find(sum)
		if !ok {
			return nil, wrong(field, "%s was not uploaded, or is gone; deploy again", shown(name))
		}
		tree = append(tree, source.File{Path: name, Hash: o.hash, Size: o.size, Exec: o.exec})
	}
	missing, err := d.Sources.Missing(tree)
	if err != nil {
		return nil, err
	}
	if len(missing) > 0 {
		i := slices.IndexFunc(tree, func(f source.File) bool { return f.Hash == missing[0] })
		return nil, wrong(field, "%s is gone from the server; deploy again", shown(tree[i].Path))
	}
	return tree, nil
}

// read makes a version of the app.yaml among the files and keeps the tree.
func (d *door) read(tree source.Tree, w wishVersion) (app.Version, error) {
	name := w.Deployment.Build.AppYAMLPath
	if name == "" {
		name = string(w.BetaSettings["module_yaml_path"])
	}
	if name == "" {
		name = "app.yaml"
	}
	if _, ok := tree.Find(name); !ok {
		return app.Version{}, wrong("version.deployment.cloudBuildOptions.appYamlPath", "%s is not among the files", shown(name))
	}
	data, err := d.Sources.ReadFile(tree, name, appYAMLMax)
	if err != nil {
		return app.Version{}, err
	}
	v, _, err := appyaml.Parse(path.Base(name), data)
	if err != nil {
		return app.Version{}, err
	}
	if err := w.agrees(v); err != nil {
		return app.Version{}, err
	}
	if w.ServiceAccount != "" {
		v.ServiceAccount = w.ServiceAccount
	}
	if _, ok := tree.Find(mainPackageFile); ok && v.Recipe.Runtime == "go" && v.Recipe.Env[buildableVar] == "" {
		if tree, err = d.mainPackage(tree, &v); err != nil {
			return app.Version{}, err
		}
	}
	v.Source, err = d.Sources.PutTree(tree)
	return v, err
}

// agrees says whether what gcloud made of app.yaml is of this one. Somebody who
// sends both by hand should not wonder which of them counts.
func (w wishVersion) agrees(v app.Version) error {
	if runtime := string(w.BetaSettings["vm_runtime"]); runtime != "" && appyaml.Runtime(runtime) != v.Recipe.Runtime {
		return wrong("version.betaSettings.vm_runtime", "it is %s, and app.yaml says %s", shown(runtime), v.Recipe.Runtime)
	}
	if w.Manual != nil && v.Scaling.Manual && w.Manual.Instances != v.Scaling.Min {
		return wrong("version.manualScaling.instances", "it is %d, and app.yaml says %d", w.Manual.Instances, v.Scaling.Min)
	}
	for _, name := range slices.Sorted(maps.Keys(w.EnvVariables)) {
		if _, ok := v.Env[name]; !ok {
			return wrong("version.envVariables", "%s is not in app.yaml, which is what counts: write it there", shown(name))
		}
	}
	return nil
}

// mainPackage has the build find the package that gcloud's stager for Go found,
// and leaves its note out of the tree.
func (d *door) mainPackage(tree source.Tree, v *app.Version) (source.Tree, error) {
	data, err := d.Sources.ReadFile(tree, mainPackageFile, nameMax)
	if err != nil {
		return nil, err
	}
	folder := path.Clean(strings.TrimSpace(string(data)))
	if folder != "." && !strings.HasPrefix(folder, "-") && !path.IsAbs(folder) && !strings.HasPrefix(folder, "..") {
		env := maps.Clone(v.Recipe.Env)
		if env == nil {
			env = map[string]string{}
		}
		env[buildableVar] = fmt.Sprintf("./%s", folder)
		v.Recipe.Env = env
	}
	return slices.DeleteFunc(tree, func(f source.File) bool { return f.Path == mainPackageFile }), nil
}
