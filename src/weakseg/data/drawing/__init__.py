"""The picture-book painter behind the generated data set: shapes, creatures, scenery."""
