package googleapi

import (
	"strconv"
	"strings"
)

// Cloud Storage, as far as a deploy uses it: buckets whose objects are files
// named by their SHA-1. All buckets hold the same: what an object is called says
// what is in it.

// settingsBucket and settingsObject are where gcloud looks for who builds. With
// this answer it uploads the sources and has the server build, always.
const (
	settingsBucket = "runtime-builders"
	settingsObject = "experiments.yaml"
	settingsText   = "schema_version: 1\nexperiments:\n  trigger_build_server_side: 100\n"
)

// objectsPage is how many objects one answer lists at most, as in Cloud Storage.
const objectsPage = 1000

type wireBucket struct {
	Kind         string `json:"kind"`
	ID           string `json:"id"`
	Name         string `json:"name"`
	Location     string `json:"location"`
	StorageClass string `json:"storageClass"`
}

type wireObject struct {
	Kind           string `json:"kind"`
	ID             string `json:"id"`
	Name           string `json:"name"`
	Bucket         string `json:"bucket"`
	Generation     string `json:"generation"`
	Metageneration string `json:"metageneration"`
	ContentType    string `json:"contentType"`
	StorageClass   string `json:"storageClass"`
	Size           string `json:"size"` // gcloud compares it with the file's
}

func (o object) wire(bucket string) wireObject {
	return wireObject{
		Kind: "storage#object", ID: bucket + "/" + o.sha1 + "/1", Name: o.sha1, Bucket: bucket,
		Generation: "1", Metageneration: "1", ContentType: "application/octet-stream", StorageClass: "STANDARD",
		Size: strconv.FormatInt(o.size, 10),
	}
}

// bucketMax is the length of a bucket's name at most; gcloud crashes beyond it.
const bucketMax = 63

// bucketOf is where gcloud is told to upload a project's files.
func bucketOf(project string) string {
	name := "staging." + project
	return strings.TrimRight(name[:min(len(name), bucketMax)], "-.")
}

func (c *call) bucket() (string, error) {
	name := c.path["bucket"]
	if len(name) < 3 || len(name) > 222 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" {
		return "", wrong("bucket", "%s is no name of a bucket", shown(name))
	}
	return name, nil
}

func (d *door) getBucket(c *call) (any, error) {
	name, err := c.bucket()
	if err != nil {
		return nil, err
	}
	return wireBucket{Kind: "storage#bucket", ID: name, Name: name, Location: strings.ToUpper(d.House.Place().Region), StorageClass: "STANDARD"}, nil
}

func (d *door) listObjects(c *call) (any, error) {
	bucket, err := c.bucket()
	if err != nil {
		return nil, err
	}
	held, err := d.shelf.held()
	if err != nil {
		return nil, err
	}
	prefix := c.query.Get("prefix")
	var all []object
	for _, o := range held {
		if strings.HasPrefix(o.sha1, prefix) {
			all = append(all, o)
		}
	}
	some, next, err := page(c, "maxResults", objectsPage, all, func(o object) string { return o.sha1 })
	if err != nil {
		return nil, err
	}
	answer := struct {
		Kind  string       `json:"kind"`
		Next  string       `json:"nextPageToken,omitempty"`
		Items []wireObject `json:"items,omitempty"`
	}{Kind: "storage#objects", Next: next}
	for _, o := range some {
		answer.Items = append(answer.Items, o.wire(bucket))
	}
	return answer, nil
}

func (d *door) getObject(c *call) (any, error) {
	bucket, err := c.bucket()
	if err != nil {
		return nil, err
	}
	name, media := c.path["object"], c.query.Get("alt") == "media"
	if bucket == settingsBucket && name == settingsObject && media {
		return raw{kind: "application/yaml", text: settingsText}, nil
	}
	o, ok := d.shelf.find(name)
	if !ok || media {
		return nil, missing("object " + shown(bucket+"/"+name))
	}
	return o.wire(bucket), nil
}
